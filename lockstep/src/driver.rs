//! A node and its guest together, for a program with one thread.

use crate::event::{Action, Event};
use crate::guest::Guest;
use crate::node::Node;
use crate::work::{Done, Hands, Work};

/// A [`Node`] with its [`Hands`].
#[derive(Debug)]
pub struct Driver<G> {
    /// The node.
    pub node: Node,
    /// The guest.
    pub hands: Hands<G>,
}

/// What a step was.
#[derive(Debug)]
pub enum Step {
    /// Work was done; its result is to be given to [`Driver::finish`] when its time has passed.
    Worked(Done),
    /// There is nothing to do until then, or until an event.
    Wait(Option<u64>),
}

impl<G: Guest> Driver<G> {
    /// Couples them.
    pub fn new(node: Node, hands: Hands<G>) -> Self {
        Self { node, hands }
    }

    /// Takes an event.
    pub fn handle(&mut self, now: u64, event: Event) {
        self.node.handle(now, event);
    }

    /// Does the next piece of work.
    pub fn step(&mut self, now: u64) -> Step {
        self.node.tick(now);
        match self.node.work(now) {
            Work::Wait { until_ns } => Step::Wait([until_ns, self.node.deadline()].into_iter().flatten().min()),
            work => Step::Worked(self.hands.execute(work)),
        }
    }

    /// Gives the node the result of a step.
    pub fn finish(&mut self, now: u64, done: Done) {
        self.node.done(now, done);
    }

    /// The next thing for the edge to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.node.poll()
    }
}
