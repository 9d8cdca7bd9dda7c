//! What nodes tell about themselves.

use bytes::Bytes;

use super::codec::{Reader, WireError, Writer};
use super::{KIND_ALIVE, KIND_GOODBYE, KIND_HELLO};
use crate::bus::{BusError, NodeId};
use crate::cluster::member::{ForwardToken, Member};
use crate::cluster::membership::Announcement;

/// Room for an announcement of usual length.
const CAPACITY: usize = 128;

/// Writes what the node `me` announces.
///
/// # Errors
/// Too many dialects.
pub(crate) fn encode_announcement(
    me: &Member,
    announcement: Announcement,
) -> Result<Bytes, BusError> {
    let kind = match announcement {
        Announcement::Hello => KIND_HELLO,
        Announcement::Alive => KIND_ALIVE,
        Announcement::Goodbye => KIND_GOODBYE,
    };
    let mut out = Writer::new(kind, me.node, CAPACITY);
    if announcement != Announcement::Goodbye {
        out.number(me.started_ms);
        out.blob(me.version.as_bytes())?;
        out.count(me.dialects.len())?;
        for dialect in &me.dialects {
            out.blob(dialect.as_bytes())?;
        }
        let address = me.address.map(|address| address.to_string());
        out.blob(address.unwrap_or_default().as_bytes())?;
        out.bytes(me.token.as_bytes());
    }
    Ok(out.finish())
}

pub(super) fn read(node: NodeId, reader: &mut Reader) -> Result<Member, WireError> {
    let started_ms = reader.number()?;
    let version = reader.text()?.as_str().to_owned();
    let dialects: Vec<String> = reader.list(|reader| Ok(reader.text()?.as_str().to_owned()))?;
    let address = match reader.text()?.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| WireError::InvalidAddress)?),
    };
    Ok(Member {
        node,
        started_ms,
        version,
        dialects,
        address,
        token: ForwardToken::new(reader.array()?),
    })
}
