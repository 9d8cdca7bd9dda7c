//! Who is in which room, on this node and on the others.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use sockhop::SocketId;
use sockhop::engineio::SessionId;

use super::LOBBY;

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) room: String,
}

/// Where somebody is now; nowhere once he has left.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Whereabouts {
    pub(super) id: String,
    pub(super) person: Option<Person>,
}

/// What a node tells the others.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Moves {
    /// The tag of a node whose whole people these are.
    pub(super) all_of: Option<u32>,
    pub(super) people: Vec<Whereabouts>,
}

/// Somebody who left a room, joined one, or both.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    pub(super) id: String,
    pub(super) left: Option<Person>,
    pub(super) joined: Option<Person>,
}

impl Change {
    pub(super) fn lost((id, person): (String, Person)) -> Self {
        Self {
            id,
            left: Some(person),
            joined: None,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Listed {
    id: String,
    name: String,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct RoomCount {
    name: String,
    people: usize,
}

/// Everybody by socket.
#[derive(Default)]
pub(super) struct People {
    /// The clients of this node.
    pub(super) here: HashMap<SocketId, Person>,
    /// Those of the others, as they tell.
    elsewhere: HashMap<String, Person>,
}

impl People {
    pub(super) fn inside(&self, room: &str) -> Vec<Listed> {
        let inside = self.all().filter(|(_, person)| person.room == room);
        inside
            .map(|(id, person)| Listed {
                id: id.to_owned(),
                name: person.name.clone(),
            })
            .collect()
    }

    pub(super) fn is_in_use(&self, room: &str) -> bool {
        self.all().any(|(_, person)| person.room == room)
    }

    /// All rooms with somebody in them, and the lobby, which comes first.
    pub(super) fn rooms(&self) -> Vec<RoomCount> {
        let mut counts = BTreeMap::new();
        for (_, person) in self.all() {
            *counts.entry(person.room.clone()).or_insert(0) += 1;
        }
        let lobby = RoomCount {
            name: LOBBY.to_owned(),
            people: counts.remove(LOBBY).unwrap_or(0),
        };
        let others = counts
            .into_iter()
            .map(|(name, people)| RoomCount { name, people });
        std::iter::once(lobby).chain(others).collect()
    }

    /// Another node told where people are: who has moved by that, and from where.
    pub(super) fn moved(&mut self, moves: Moves) -> Vec<Change> {
        let lost = moves.all_of.map(|node| self.take_lost(|tag| tag != node));
        let mut lost: HashMap<String, Person> = lost.into_iter().flatten().collect();
        let mut changes = Vec::new();
        for Whereabouts { id, person } in moves.people {
            let before = lost.remove(&id).or_else(|| self.elsewhere.remove(&id));
            if let Some(person) = person.clone() {
                self.elsewhere.insert(id.clone(), person);
            }
            if before != person {
                changes.push(Change {
                    id,
                    left: before,
                    joined: person,
                });
            }
        }
        changes.extend(lost.into_iter().map(Change::lost));
        changes
    }

    /// Where everybody of this node is.
    pub(super) fn whereabouts(&self) -> Vec<Whereabouts> {
        let everybody = self.here.iter().map(|(id, person)| Whereabouts {
            id: id.to_string(),
            person: Some(person.clone()),
        });
        everybody.collect()
    }

    /// Takes out the clients of the nodes whose tag does not pass.
    pub(super) fn take_lost(&mut self, is_member: impl Fn(u32) -> bool) -> Vec<(String, Person)> {
        let is_lost = |id: &String, _: &mut Person| {
            let session = SessionId::parse(id);
            !session.is_some_and(|session| is_member(session.node_tag().get()))
        };
        self.elsewhere.extract_if(is_lost).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&str, &Person)> {
        let here = self.here.iter().map(|(id, person)| (id.as_str(), person));
        let elsewhere = self.elsewhere.iter();
        here.chain(elsewhere.map(|(id, person)| (id.as_str(), person)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(room: &str) -> Person {
        Person {
            name: "n".to_owned(),
            room: room.to_owned(),
        }
    }

    /// How often somebody left a room and joined one.
    fn moved(
        people: &mut People,
        all_of: Option<u32>,
        moves: &[(&str, Option<&str>)],
    ) -> (usize, usize) {
        let one = |(id, room): &(&str, Option<&str>)| Whereabouts {
            id: (*id).to_owned(),
            person: room.map(person),
        };
        let people_moved = moves.iter().map(one).collect();
        let changes = people.moved(Moves {
            all_of,
            people: people_moved,
        });
        let left = changes.iter().filter(|change| change.left.is_some());
        let joined = changes.iter().filter(|change| change.joined.is_some());
        (left.count(), joined.count())
    }

    fn counts(people: &People) -> Vec<(String, usize)> {
        let rooms = people.rooms().into_iter();
        rooms.map(|room| (room.name, room.people)).collect()
    }

    #[test]
    fn people_of_all_nodes_are_counted_until_they_leave_or_their_node_does() {
        let mut people = People::default();
        people
            .here
            .insert("AAABxxxxxxxxxxxxxxxx".to_owned().into(), person("red"));
        let (two, three) = ("AAACxxxxxxxxxxxxxxxx", "AAADxxxxxxxxxxxxxxxx");
        let told = [(two, Some("red")), (three, Some(LOBBY))];
        assert_eq!(moved(&mut people, None, &told), (0, 2));
        assert_eq!(moved(&mut people, None, &told), (0, 0));
        assert_eq!(
            counts(&people),
            [("lobby".to_owned(), 1), ("red".to_owned(), 2)]
        );
        assert_eq!(people.inside("red").len(), 2);
        assert_eq!(moved(&mut people, None, &[(two, None)]), (1, 0));
        // All people of a node: whoever is not among them has left.
        assert_eq!(moved(&mut people, Some(2), &[(two, Some("red"))]), (0, 1));
        assert_eq!(moved(&mut people, Some(2), &[]), (1, 0));
        let lost = people.take_lost(|tag| tag == 1);
        assert_eq!(lost, [("AAADxxxxxxxxxxxxxxxx".to_owned(), person(LOBBY))]);
        assert_eq!(
            counts(&people),
            [("lobby".to_owned(), 0), ("red".to_owned(), 1)]
        );
    }
}
