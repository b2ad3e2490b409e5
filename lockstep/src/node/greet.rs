//! Connections and the first words on them: who is there, may it stay, where does the log go on.

use super::{Node, Role};
use crate::event::{Finish, Notice, Verdict};
use crate::handshake::Identity;
use crate::message::{Message, Side};
use crate::node::common::Link;
use crate::record::Position;

/// A peer's Hello.
#[derive(Clone, Debug)]
pub(super) struct Greeting {
    pub incarnation: u64,
    pub side: Side,
    pub term: u64,
    pub position: Option<Position>,
}

impl Node {
    pub(super) fn link_up(&mut self, number: u64) {
        if number <= self.common.last_link {
            return;
        }
        self.common.last_link = number;
        if self.common.link.is_some() {
            self.link_lost();
            self.common.disconnect();
        }
        self.common.link = Some(Link { number, greeted: false, refused: false });
        match &mut self.role {
            Role::Primary(_) => self.common.hello(Side::Primary, None),
            Role::Standby(standby) if standby.may_pair() => {
                let position = standby.position(&self.common);
                self.common.hello(Side::Standby, position);
            }
            Role::Standby(_) | Role::Finished => self.common.disconnect(),
        }
    }

    pub(super) fn link_down(&mut self, number: u64, died: bool) {
        if self.common.link.as_ref().is_none_or(|link| link.number != number) {
            return;
        }
        self.link_lost();
        if died {
            self.peer_gone("its process died");
        }
    }

    fn link_lost(&mut self) {
        self.common.stirred = true;
        match &mut self.role {
            Role::Primary(primary) => primary.link_lost(&mut self.common),
            Role::Standby(standby) => standby.link_lost(&mut self.common),
            Role::Finished => (),
        }
        self.common.link = None;
    }

    pub(super) fn received(&mut self, number: u64, bytes: &[u8]) {
        let Some(link) = self.common.link.as_ref().filter(|link| link.number == number) else { return };
        let (greeted, refused) = (link.greeted, link.refused);
        match Message::decode(bytes) {
            Err(bad) => self.nonsense(&bad.to_string()),
            Ok(Message::Hello { .. }) if refused => (),
            Ok(Message::Hello { identity, incarnation, side, term, position }) => {
                self.hello(&identity, Greeting { incarnation, side, term, position });
            }
            Ok(Message::Refused { reason }) => {
                self.common.notice(Notice::Refused(reason));
                self.drop_link();
            }
            Ok(_) if refused => (),
            Ok(message) => {
                if greeted {
                    self.common.heard();
                }
                // Of these the node says itself whether they matter to the guest.
                self.common.stirred |= !matches!(message, Message::Heartbeat { .. } | Message::Acknowledge { .. });
                self.message(message);
            }
        }
    }

    fn message(&mut self, message: Message) {
        let answer = match &mut self.role {
            Role::Primary(primary) => primary.message(&mut self.common, message),
            Role::Standby(standby) => standby.message(&mut self.common, message),
            Role::Finished => Ok(()),
        };
        if let Err(what) = answer {
            self.nonsense(&what);
        }
    }

    /// The peer breaks the protocol: this connection is of no more use.
    fn nonsense(&mut self, what: &str) {
        self.common.notice(Notice::Nonsense(what.to_owned()));
        self.drop_link();
    }

    fn drop_link(&mut self) {
        let link = self.common.link.as_ref().map(|link| link.number);
        self.link_lost();
        if let Some(link) = link {
            self.common.actions.push_back(crate::event::Action::Disconnect { link });
        }
    }

    fn refuse(&mut self, reason: String) {
        let link = self.common.link.as_ref().map(|link| link.number);
        self.common.send(&Message::Refused { reason });
        self.link_lost();
        self.common.link = link.map(|number| Link { number, greeted: false, refused: true });
    }

    fn hello(&mut self, identity: &Identity, greeting: Greeting) {
        if let Err(mismatch) = self.common.identity.check(identity) {
            let reason =
                identity.check(&self.common.identity).map_or_else(|theirs| theirs.to_string(), |()| String::new());
            self.common.notice(Notice::Unlike(mismatch));
            self.refuse(reason);
            return;
        }
        match (&mut self.role, greeting.side) {
            (Role::Primary(_), Side::Primary) => self.two_primaries(greeting.term),
            (Role::Primary(primary), Side::Standby) => primary.greeted_by(&mut self.common, greeting),
            (Role::Standby(_), Side::Standby) => self.refuse("neither side has a guest".into()),
            (Role::Standby(standby), Side::Primary) => standby.hello(&mut self.common, greeting.incarnation),
            (Role::Finished, _) => (),
        }
    }

    /// Both run a guest. The lower term has lost; in equal terms they are two guests that never were a pair.
    fn two_primaries(&mut self, their_term: u64) {
        if their_term > self.common.term {
            self.common.finish(Finish::Fenced { term: their_term });
        } else {
            self.refuse("this side runs a guest of its own: end one of them and start it as the standby".into());
        }
    }

    pub(super) fn claimed(&mut self, term: u64, verdict: Verdict) {
        if !self.common.claimed(term, verdict) {
            return;
        }
        match &mut self.role {
            Role::Primary(primary) => primary.go_alone(&mut self.common, term),
            Role::Standby(standby) => standby.claim_won(&mut self.common, term),
            Role::Finished => (),
        }
    }
}
