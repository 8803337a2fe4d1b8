//! hyper on tokio, one thread: the HTTP server that most of the ecosystem is built upon.
//!
//! As in its own examples: `http1::Builder` with defaults, a task for each connection, a `service_fn`.

use std::convert::Infallible;
use std::io;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::load::HELLO;
use crate::machine;
use crate::subject::{Job, Role, Skip, Subject, Work};

/// The subject.
#[derive(Debug)]
pub(crate) struct Hyper;

impl Subject for Hyper {
    fn name(&self) -> &'static str {
        "hyper-tokio"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("hyper")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Hello => {
                let runtime = Builder::new_current_thread().enable_io().build()?;
                match runtime.block_on(serve(job))? {}
            }
            _ => Err(Skip::because("is an HTTP server only")),
        }
    }
}

async fn serve(job: &Job) -> io::Result<Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    job.listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(greet));
        tokio::spawn(connection);
    }
}

async fn greet(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(HELLO))))
}
