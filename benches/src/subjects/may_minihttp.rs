//! may_minihttp: the HTTP server on top of may, the peer with stackful coroutines; one worker.

use std::io;
use std::net::{SocketAddr, TcpListener};

use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};

use crate::machine;
use crate::subject::{Job, Role, Skip, Subject, Work};

/// The subject.
#[derive(Debug)]
pub(crate) struct MayMinihttp;

impl Subject for MayMinihttp {
    fn name(&self) -> &'static str {
        "may-minihttp"
    }

    fn role(&self) -> Role {
        Role::Peer
    }

    fn version(&self) -> String {
        machine::locked_version("may_minihttp")
    }

    fn run(&self, job: &Job) -> Result<(), Skip> {
        match job.work {
            Work::Hello => serve(job),
            _ => Err(Skip::because("is an HTTP server only")),
        }
    }
}

#[derive(Clone, Copy)]
struct Greeter;

impl HttpService for Greeter {
    fn call(&mut self, _: Request<'_, '_, '_>, response: &mut Response<'_>) -> io::Result<()> {
        response.body("Hello, world!");
        Ok(())
    }
}

impl HttpServiceFactory for Greeter {
    type Service = Greeter;

    fn new_service(&self, _: usize) -> Greeter {
        Greeter
    }
}

fn serve(job: &Job) -> Result<(), Skip> {
    may::config().set_workers(1);
    let address = free_address()?;
    let server = Greeter.start(address)?;
    job.listening(address);
    let ended = server.join();
    Err(Skip(format!("its server ended: {ended:?}")))
}

/// It cannot say which port it was given, so it is told one that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
