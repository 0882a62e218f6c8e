//! MQTT over WebSocket: the session of a client, which is repeated to the next broker.
//!
//! MQTT is a stream of packets, whose borders need not be those of messages (MQTT 5.0 §6). Packets are passed on whole,
//! so that between two messages there is always the border of a packet, at which another broker can go on.

mod packet;

use serde::{Deserialize, Serialize};

use super::memory::{Full, MemoryBound};
use crate::hook::Direction;
use packet::{MalformedPacket, Packet, PacketKind, PacketReader, variable, written};

/// State of one client's MQTT connection.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct MqttSession {
    /// Protocol level of the CONNECT.
    level: u8,
    connect: Option<Request>,
    /// The client has had a CONNACK that accepts it.
    connected: bool,
    subscriptions: Vec<Subscription>,
    /// Packets that the broker has not answered, in order.
    pending: Vec<Request>,
    owed: Owed,
    /// Beginning of a packet, by [`Direction`].
    partial: [Bytes; 2],
}

/// Bytes that a handover carries as text.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Bytes(#[serde(with = "crate::base64_text")] Vec<u8>);

/// A packet of the client's.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Request {
    kind: PacketKind,
    id: u16,
    packet: Bytes,
    /// Number of the message that carried it, among those that went to brokers.
    number: u64,
}

/// A topic filter that a broker has granted.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Subscription {
    filter: Bytes,
    options: u8,
    /// Properties of version 5, with their length; empty before it.
    properties: Bytes,
}

/// Answers that the next broker owes, and that the client has had.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Owed {
    connack: bool,
    subacks: Vec<u16>,
}

/// Result of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MqttOutcome {
    /// The message passes as it is.
    Pass,
    /// These packets stand in its place; none at all drop it.
    Replace(Vec<u8>),
    /// The broker refuses the client that another broker had accepted.
    Refused,
}

/// Why a session cannot be carried to another broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the bytes are not MQTT")]
    Malformed,
    #[error("what is to be kept exceeds the bound")]
    Full,
    #[error("the client uses topic aliases")]
    TopicAlias,
    #[error("the client uses extended authentication")]
    Authentication,
    #[error("a packet of more than 256 KiB comes in parts")]
    LongPacket,
}

impl From<MalformedPacket> for Unfit {
    fn from(_: MalformedPacket) -> Self {
        Self::Malformed
    }
}

impl From<Full> for Unfit {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl MqttSession {
    /// Takes the bytes of a message, whose number among those to brokers is `number`.
    ///
    /// # Errors
    /// The session cannot be carried to another broker; the bytes are to pass by [`forgo`](Self::forgo).
    pub(super) fn take(
        &mut self,
        direction: Direction,
        payload: &[u8],
        number: u64,
        bound: MemoryBound,
    ) -> Result<MqttOutcome, Unfit> {
        let partial = &self.partial[direction as usize].0;
        let all = if partial.is_empty() { payload.to_vec() } else { [partial, payload].concat() };
        let (mut rest, mut out) = (&all[..], Vec::new());
        while let Some(packet) = Packet::take(&mut rest)? {
            let passes = match direction {
                Direction::ToBackend => self.sent(&packet, number, bound).map(|()| true)?,
                Direction::ToClient => match self.answered(&packet)? {
                    Answer::Passes => true,
                    Answer::Repeated => false,
                    Answer::Refuses => return Ok(MqttOutcome::Refused),
                },
            };
            if passes {
                out.extend_from_slice(packet.bytes);
            }
        }
        if rest.len() > MOST_OF_A_PART {
            return Err(Unfit::LongPacket);
        }
        let passes = out == payload;
        self.partial[direction as usize] = Bytes(rest.to_vec());
        Ok(if passes { MqttOutcome::Pass } else { MqttOutcome::Replace(out) })
    }

    /// Bytes of a message and those kept before it, for a session that is not carried on.
    pub(super) fn forgo(&mut self, direction: Direction, payload: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.partial[direction as usize]).0;
        all.extend_from_slice(payload);
        all
    }

    /// Forgets everything but the beginnings of packets.
    pub(super) fn give_up(&mut self) {
        *self = Self { partial: std::mem::take(&mut self.partial), ..Self::default() };
    }

    /// Messages that the next broker is sent, in order: CONNECT, what is subscribed to, and what has not been answered.
    /// Packets of messages from `held_from` on are left out: the gateway still has them and sends them itself.
    pub(super) fn replay(&mut self, held_from: u64) -> Vec<Vec<u8>> {
        // The rest of this packet went down with the broker.
        self.partial[Direction::ToClient as usize] = Bytes::default();
        self.owed = Owed::default();
        let Some(connect) = self.connect.as_ref().filter(|connect| connect.number < held_from) else {
            return Vec::new();
        };
        let mut messages = vec![connect.packet.0.clone()];
        self.owed.connack = self.connected;
        // Clients count their ids up, from one or from a random place.
        for (id, subscription) in (1..=u16::MAX).rev().zip(&self.subscriptions) {
            messages.push(subscription.packet(id));
            self.owed.subacks.push(id);
        }
        let pending = self.pending.iter().filter(|request| request.number < held_from);
        messages.extend(pending.map(|request| {
            let mut packet = request.packet.0.clone();
            if request.kind == PacketKind::Publish {
                packet[0] |= DUPLICATE;
            }
            packet
        }));
        messages
    }

    /// Bytes that are kept, but for beginnings of packets.
    fn weight(&self) -> usize {
        let requests = self.connect.iter().chain(&self.pending).map(|request| request.packet.0.len());
        let subscriptions = self.subscriptions.iter().map(|it| it.filter.0.len() + it.properties.0.len());
        requests.chain(subscriptions).map(|bytes| OVERHEAD + bytes).sum()
    }

    /// Notes a packet of the client's.
    fn sent(&mut self, packet: &Packet<'_>, number: u64, bound: MemoryBound) -> Result<(), Unfit> {
        let mut fields = packet.reader();
        let id = match packet.kind {
            PacketKind::Connect => {
                fields.text()?;
                self.give_up();
                self.level = fields.byte()?;
                self.connect = Some(Request::new(packet, 0, number));
                return self.within(bound);
            }
            PacketKind::Publish => {
                fields.text()?;
                let id = if packet.qos() > 0 { fields.number()? } else { 0 };
                if self.level >= LEVEL_5 && has_topic_alias(fields.properties()?)? {
                    return Err(Unfit::TopicAlias);
                }
                id
            }
            PacketKind::Pubrel | PacketKind::Subscribe | PacketKind::Unsubscribe => fields.number()?,
            PacketKind::Pingreq => 0,
            PacketKind::Disconnect => {
                self.give_up();
                return Ok(());
            }
            PacketKind::Auth => return Err(Unfit::Authentication),
            _ => return Ok(()),
        };
        if id == 0 && packet.kind != PacketKind::Pingreq {
            return Ok(());
        }
        self.pending.retain(|request| (request.kind, request.id) != (packet.kind, id));
        self.pending.push(Request::new(packet, id, number));
        self.within(bound)
    }

    fn within(&self, bound: MemoryBound) -> Result<(), Unfit> {
        let count = self.pending.len() + self.subscriptions.len();
        if count > bound.messages || self.weight() > bound.bytes { Err(Unfit::Full) } else { Ok(()) }
    }

    /// Notes a packet of the broker's.
    fn answered(&mut self, packet: &Packet<'_>) -> Result<Answer, Unfit> {
        let mut fields = packet.reader();
        match packet.kind {
            PacketKind::Connack => {
                fields.byte()?;
                let is_accepted = fields.byte()? == 0;
                if std::mem::take(&mut self.owed.connack) {
                    return Ok(if is_accepted { Answer::Repeated } else { Answer::Refuses });
                }
                self.connected = is_accepted;
            }
            PacketKind::Suback => {
                let id = fields.number()?;
                if let Some(at) = self.owed.subacks.iter().position(|owed| *owed == id) {
                    self.owed.subacks.remove(at);
                    return Ok(Answer::Repeated);
                }
                if let Some(request) = self.taken(PacketKind::Subscribe, id) {
                    self.skip_properties(&mut fields)?;
                    self.subscribe(&request.packet.0, fields.0)?;
                }
            }
            PacketKind::Unsuback => {
                if let Some(request) = self.taken(PacketKind::Unsubscribe, fields.number()?) {
                    self.unsubscribe(&request.packet.0)?;
                }
            }
            PacketKind::Puback | PacketKind::Pubrec => drop(self.taken(PacketKind::Publish, fields.number()?)),
            PacketKind::Pubcomp => drop(self.taken(PacketKind::Pubrel, fields.number()?)),
            PacketKind::Pingresp => drop(self.taken(PacketKind::Pingreq, 0)),
            _ => {}
        }
        Ok(Answer::Passes)
    }

    /// Takes a packet out that has been answered.
    fn taken(&mut self, kind: PacketKind, id: u16) -> Option<Request> {
        let at = self.pending.iter().position(|request| (request.kind, request.id) == (kind, id))?;
        Some(self.pending.remove(at))
    }

    fn skip_properties<'b>(&self, fields: &mut PacketReader<'b>) -> Result<&'b [u8], MalformedPacket> {
        if self.level >= LEVEL_5 { fields.properties() } else { Ok(&[]) }
    }

    /// Keeps the topic filters of a SUBSCRIBE that `codes` grant.
    fn subscribe(&mut self, packet: &[u8], codes: &[u8]) -> Result<(), MalformedPacket> {
        let Some(packet) = Packet::take(&mut &packet[..])? else { return Err(MalformedPacket) };
        let mut fields = packet.reader();
        fields.number()?;
        let properties = self.skip_properties(&mut fields)?;
        let mut with_length = Vec::new();
        if self.level >= LEVEL_5 {
            variable(&mut with_length, properties.len());
            with_length.extend_from_slice(properties);
        }
        for code in codes {
            if fields.is_empty() {
                break;
            }
            let (filter, options) = (fields.text()?, fields.byte()?);
            if *code < FAILURE {
                self.subscriptions.retain(|subscription| subscription.filter.0 != filter);
                let (filter, properties) = (Bytes(filter.to_vec()), Bytes(with_length.clone()));
                // Retained messages have been sent once.
                let options = if self.level >= LEVEL_5 { options & !RETAIN | NEVER_RETAINED } else { options };
                self.subscriptions.push(Subscription { filter, options, properties });
            }
        }
        Ok(())
    }

    /// Forgets the topic filters of an UNSUBSCRIBE.
    fn unsubscribe(&mut self, packet: &[u8]) -> Result<(), MalformedPacket> {
        let Some(packet) = Packet::take(&mut &packet[..])? else { return Err(MalformedPacket) };
        let mut fields = packet.reader();
        fields.number()?;
        self.skip_properties(&mut fields)?;
        while !fields.is_empty() {
            let filter = fields.text()?;
            self.subscriptions.retain(|subscription| subscription.filter.0 != filter);
        }
        Ok(())
    }
}

/// Meaning of a broker's packet.
enum Answer {
    Passes,
    /// The client has had it from another broker.
    Repeated,
    Refuses,
}

impl Request {
    fn new(packet: &Packet<'_>, id: u16, number: u64) -> Self {
        Self { kind: packet.kind, id, packet: Bytes(packet.bytes.to_vec()), number }
    }
}

impl Subscription {
    fn packet(&self, id: u16) -> Vec<u8> {
        let filter = &self.filter.0;
        // The filter was read behind a length of two bytes, so its length fits into two.
        let length = u16::try_from(filter.len()).unwrap_or(u16::MAX).to_be_bytes();
        written(PacketKind::Subscribe, 2, &[&id.to_be_bytes(), &self.properties.0, &length, filter, &[self.options]])
    }
}

/// Looks for a Topic Alias among the properties of a PUBLISH (MQTT 5.0 §3.3.2.3).
fn has_topic_alias(properties: &[u8]) -> Result<bool, MalformedPacket> {
    let mut fields = PacketReader(properties);
    while !fields.is_empty() {
        match fields.byte()? {
            0x23 => return Ok(true),
            0x01 => drop(fields.byte()?),
            0x02 => drop(fields.bytes(4)?),
            0x03 | 0x08 | 0x09 => drop(fields.text()?),
            0x26 => {
                fields.text()?;
                fields.text()?;
            }
            // A client gives no other property.
            _ => return Err(MalformedPacket),
        }
    }
    Ok(false)
}

/// Protocol level of MQTT 5.0.
const LEVEL_5: u8 = 5;
/// Flag of a PUBLISH that is sent again.
const DUPLICATE: u8 = 0x08;
/// Least reason code that is a failure.
const FAILURE: u8 = 0x80;
/// Retain Handling among the options of a subscription: 2 sends no retained messages.
const RETAIN: u8 = 0x30;
const NEVER_RETAINED: u8 = 0x20;
/// Size of what is kept without its bytes, here and on its way to another process.
const OVERHEAD: usize = 96;
/// The longest beginning of a packet that is kept until its end comes.
const MOST_OF_A_PART: usize = 256 * 1024;

#[cfg(test)]
mod tests;
