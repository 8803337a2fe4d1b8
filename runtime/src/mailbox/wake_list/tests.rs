//! Every interleaving of wakers and a drain (loom), and the plain order (without loom).

use super::{Link, Linked, WakeList};
use crate::mailbox::atomics::{AtomicUsize, Ordering};
use std::sync::Arc;

struct Node {
    link: Link<Node>,
    condition: AtomicUsize,
}

impl Linked for Node {
    fn link(&self) -> &Link<Self> {
        &self.link
    }
}

fn node() -> Arc<Node> {
    Arc::new(Node {
        link: Link::new(),
        condition: AtomicUsize::new(0),
    })
}

#[cfg(not(loom))]
#[test]
fn oldest_first_each_once_and_nothing_after_the_end() {
    let list = WakeList::new();
    let nodes = [node(), node(), node()];
    for (number, one) in nodes.iter().enumerate() {
        one.condition.store(number, Ordering::Relaxed);
        assert!(list.push(one));
        assert!(!list.push(one), "it is in already");
    }
    let mut seen = Vec::new();
    list.drain(|one| seen.push(one.condition.load(Ordering::Relaxed)));
    assert_eq!(seen, [0, 1, 2]);
    assert!(list.is_empty() && nodes.iter().all(|one| Arc::strong_count(one) == 1));
    assert!(list.push(&nodes[1]), "it may come again");
    list.close();
    assert!(!list.push(&nodes[0]), "the list has ended");
    assert!(
        nodes.iter().all(|one| Arc::strong_count(one) == 1),
        "nothing is kept"
    );
    list.drain(|_| panic!("nothing is in"));
    list.close();
}

/// Two wakers make their part of a condition true and push the same node. Whatever the order, the drains that hand
/// the node out have seen all of it in the end.
#[cfg(loom)]
#[test]
fn loom_a_wake_that_finds_the_node_queued_is_not_lost() {
    loom::model(|| {
        let list = loom::sync::Arc::new(WakeList::new());
        let node = node();
        let threads = [(); 2].map(|()| {
            let (list, node) = (loom::sync::Arc::clone(&list), Arc::clone(&node));
            loom::thread::spawn(move || {
                node.condition.fetch_add(1, Ordering::Relaxed);
                list.push(&node);
            })
        });
        let mut seen = 0;
        list.drain(|node| seen = node.condition.load(Ordering::Relaxed));
        for thread in threads {
            thread.join().unwrap();
        }
        list.drain(|node| seen = node.condition.load(Ordering::Relaxed));
        assert_eq!(seen, 2);
        assert_eq!(Arc::strong_count(&node), 1);
    });
}

/// A push that races with the end either gets in and is dropped, or is refused: no count is left behind.
#[cfg(loom)]
#[test]
fn loom_the_end_keeps_nothing() {
    loom::model(|| {
        let list = loom::sync::Arc::new(WakeList::new());
        let nodes = [node(), node()];
        let threads = nodes.clone().map(|node| {
            let list = loom::sync::Arc::clone(&list);
            loom::thread::spawn(move || list.push(&node))
        });
        list.close();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(nodes.iter().all(|node| Arc::strong_count(node) == 1));
        assert!(list.is_empty());
    });
}
