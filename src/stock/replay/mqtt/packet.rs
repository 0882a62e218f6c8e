//! MQTT control packets as bytes, versions 3.1, 3.1.1 and 5.0.

/// The bytes are not those of an MQTT packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MalformedPacket;

/// Type of a control packet (MQTT 5.0 §2.1.2); the values on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum PacketKind {
    Connect = 1,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Pingreq,
    Pingresp,
    Disconnect,
    Auth,
}

const KINDS: [PacketKind; 15] = [
    PacketKind::Connect,
    PacketKind::Connack,
    PacketKind::Publish,
    PacketKind::Puback,
    PacketKind::Pubrec,
    PacketKind::Pubrel,
    PacketKind::Pubcomp,
    PacketKind::Subscribe,
    PacketKind::Suback,
    PacketKind::Unsubscribe,
    PacketKind::Unsuback,
    PacketKind::Pingreq,
    PacketKind::Pingresp,
    PacketKind::Disconnect,
    PacketKind::Auth,
];

/// A whole packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'b> {
    pub(super) kind: PacketKind,
    /// Lower half of the first byte.
    pub(super) flags: u8,
    /// Everything behind the fixed header.
    pub(super) body: &'b [u8],
    /// Everything.
    pub(super) bytes: &'b [u8],
}

impl<'b> Packet<'b> {
    /// Takes the first packet off `bytes`; `None` where it is not whole yet.
    pub(super) fn take(bytes: &mut &'b [u8]) -> Result<Option<Self>, MalformedPacket> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let kind = usize::from(first >> 4).checked_sub(1).and_then(|place| KINDS.get(place)).ok_or(MalformedPacket)?;
        let mut fields = PacketReader(rest);
        let Some(length) = fields.length()? else { return Ok(None) };
        let header = bytes.len() - fields.0.len();
        let Some(body) = fields.0.get(..length) else { return Ok(None) };
        let (packet, others) = bytes.split_at(header + length);
        *bytes = others;
        Ok(Some(Self { kind: *kind, flags: first & 0x0f, body, bytes: packet }))
    }

    /// A reader of the body.
    pub(super) fn reader(&self) -> PacketReader<'b> {
        PacketReader(self.body)
    }

    /// Quality of service of a PUBLISH.
    pub(super) fn qos(&self) -> u8 {
        self.flags >> 1 & 3
    }
}

/// Reads the fields of a packet one after the other.
pub(super) struct PacketReader<'b>(pub(super) &'b [u8]);

impl<'b> PacketReader<'b> {
    /// Returns true when nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, MalformedPacket> {
        let (first, rest) = self.0.split_first().ok_or(MalformedPacket)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u16, MalformedPacket> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'b [u8], MalformedPacket> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MalformedPacket)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Text or binary data, behind its length of two bytes.
    pub(super) fn text(&mut self) -> Result<&'b [u8], MalformedPacket> {
        let count = self.number()?;
        self.bytes(count.into())
    }

    /// A variable byte integer (MQTT 5.0 §1.5.5); `None` where it is not whole.
    fn length(&mut self) -> Result<Option<usize>, MalformedPacket> {
        let mut length = 0;
        for place in 0..4 {
            let Some((&digit, rest)) = self.0.split_first() else { return Ok(None) };
            self.0 = rest;
            length |= usize::from(digit & 0x7f) << (7 * place);
            if digit & 0x80 == 0 {
                return Ok(Some(length));
            }
        }
        Err(MalformedPacket)
    }

    /// Properties of version 5, behind their length.
    pub(super) fn properties(&mut self) -> Result<&'b [u8], MalformedPacket> {
        let length = self.length()?.ok_or(MalformedPacket)?;
        self.bytes(length)
    }
}

/// A packet of these parts.
pub(super) fn written(kind: PacketKind, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut packet = vec![(kind as u8) << 4 | flags];
    variable(&mut packet, parts.iter().map(|part| part.len()).sum());
    packet.extend(parts.iter().copied().flatten());
    packet
}

/// Writes a variable byte integer.
pub(super) fn variable(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let digit = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { digit } else { digit | 0x80 });
        if value == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_taken_once_it_is_whole_and_what_follows_stays() {
        let packet = written(PacketKind::Publish, 2, &[&[0; 200]]);
        for cut in 0..packet.len() {
            assert_eq!(Packet::take(&mut &packet[..cut]), Ok(None), "{cut}");
        }
        let two = [&packet[..], &[0xc0, 0]].concat();
        let mut rest = &two[..];
        let taken = Packet::take(&mut rest).unwrap().unwrap();
        assert_eq!(
            (taken.kind, taken.qos(), taken.body, taken.bytes),
            (PacketKind::Publish, 1, &[0; 200][..], &packet[..])
        );
        let ping = Packet::take(&mut rest).unwrap().unwrap();
        assert_eq!((ping.kind, ping.bytes, rest), (PacketKind::Pingreq, &[0xc0, 0][..], &[][..]));
    }

    #[test]
    fn a_type_and_a_length_that_do_not_exist_are_malformed() {
        for bytes in [&[0x00, 0][..], &[0x30, 0x80, 0x80, 0x80, 0x80, 1]] {
            assert_eq!(Packet::take(&mut &bytes[..]), Err(MalformedPacket));
        }
    }
}
