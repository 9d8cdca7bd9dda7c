//! The forms of one packet: one for each parser that somebody needs.

use socketio_proto::Parser;

/// The parsers there are.
pub(crate) const PARSERS: [Parser; 2] = [Parser::Json, Parser::Msgpack];

/// One `T` for each parser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerParser<T> {
    json: T,
    msgpack: T,
}

impl<T> PerParser<T> {
    pub(crate) fn get(&self, parser: Parser) -> &T {
        match parser {
            Parser::Json => &self.json,
            Parser::Msgpack => &self.msgpack,
        }
    }

    pub(crate) fn get_mut(&mut self, parser: Parser) -> &mut T {
        match parser {
            Parser::Json => &mut self.json,
            Parser::Msgpack => &mut self.msgpack,
        }
    }
}

impl<T> PerParser<Option<T>> {
    /// The first form that is there.
    pub(crate) fn any(&self) -> Option<(Parser, &T)> {
        PARSERS
            .into_iter()
            .find_map(|parser| Some((parser, self.get(parser).as_ref()?)))
    }
}
