//! MQTT sessions, cut into messages anywhere, and what another broker is told of them.

use proptest::prelude::*;

use super::*;

const BOUND: MemoryBound = MemoryBound { messages: 64, bytes: 16 * 1024 };

fn connect(level: u8) -> Vec<u8> {
    let properties: &[u8] = if level >= LEVEL_5 { &[0] } else { &[] };
    written(PacketKind::Connect, 0, &[&[0, 4], b"MQTT", &[level, 2, 0, 60], properties, &[0, 1], b"c"])
}

fn connack(level: u8, code: u8) -> Vec<u8> {
    let properties: &[u8] = if level >= LEVEL_5 { &[0] } else { &[] };
    written(PacketKind::Connack, 0, &[&[0, code], properties])
}

/// A SUBSCRIBE or an UNSUBSCRIBE.
fn filters(kind: PacketKind, level: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if level >= LEVEL_5 {
        body.push(0);
    }
    for filter in filters {
        body.extend([0, u8::try_from(filter.len()).unwrap()]);
        body.extend(filter.as_bytes());
        if kind == PacketKind::Subscribe {
            body.push(1);
        }
    }
    written(kind, 2, &[&body])
}

fn acknowledged(kind: PacketKind, level: u8, id: u16, codes: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if level >= LEVEL_5 { &[0] } else { &[] };
    written(kind, 0, &[&id.to_be_bytes(), properties, codes])
}

fn publish(qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    written(PacketKind::Publish, qos << 1, &[&[0, 1], b"t", if qos > 0 { &id } else { &[] }, payload])
}

/// A session, and the number of messages that passed.
#[derive(Default)]
struct Talk {
    session: MqttSession,
    passed: u64,
}

impl Talk {
    fn says(&mut self, packet: &[u8]) {
        let taken = self.session.take(Direction::ToBackend, packet, self.passed, BOUND);
        assert_eq!(taken, Ok(MqttOutcome::Pass), "{packet:02x?}");
        self.passed += 1;
    }

    fn hears(&mut self, packet: &[u8]) -> MqttOutcome {
        self.session.take(Direction::ToClient, packet, self.passed, BOUND).unwrap()
    }

    /// A connected session.
    fn connected(level: u8) -> Self {
        let mut talk = Self::default();
        talk.says(&connect(level));
        assert_eq!(talk.hears(&connack(level, 0)), MqttOutcome::Pass);
        talk
    }

    fn replay(&mut self) -> Vec<Vec<u8>> {
        self.session.replay(self.passed)
    }
}

#[test]
fn what_is_granted_is_subscribed_to_again_and_the_answers_are_swallowed() {
    for level in [4, LEVEL_5] {
        let mut talk = Talk::connected(level);
        talk.says(&filters(PacketKind::Subscribe, level, 7, &["a", "b", "c"]));
        assert_eq!(talk.hears(&acknowledged(PacketKind::Suback, level, 7, &[0, 0x80, 1])), MqttOutcome::Pass);
        talk.says(&filters(PacketKind::Subscribe, level, 8, &["d", "a"]));
        talk.hears(&acknowledged(PacketKind::Suback, level, 8, &[1, 1]));
        talk.says(&filters(PacketKind::Unsubscribe, level, 9, &["d"]));
        assert_eq!(talk.hears(&acknowledged(PacketKind::Unsuback, level, 9, &[])), MqttOutcome::Pass);
        for _ in 0..2 {
            let mut expected = vec![connect(level)];
            for (id, filter) in [(u16::MAX, "c"), (u16::MAX - 1, "a")] {
                let mut packet = filters(PacketKind::Subscribe, level, id, &[filter]);
                if level == LEVEL_5 {
                    *packet.last_mut().unwrap() |= NEVER_RETAINED;
                }
                expected.push(packet);
            }
            assert_eq!(talk.replay(), expected);
            assert_eq!(talk.hears(&connack(level, 0)), MqttOutcome::Replace(vec![]));
            for id in [u16::MAX, u16::MAX - 1] {
                assert_eq!(
                    talk.hears(&acknowledged(PacketKind::Suback, level, id, &[1])),
                    MqttOutcome::Replace(vec![])
                );
            }
            assert_eq!(talk.hears(&publish(0, 0, b"news")), MqttOutcome::Pass);
        }
    }
}

#[test]
fn what_is_not_answered_is_sent_again_and_its_answer_passes() {
    let mut talk = Talk::connected(4);
    let subscribe = filters(PacketKind::Subscribe, 4, 2, &["a"]);
    let (acked, once, twice) = (publish(1, 3, b"1"), publish(1, 4, b"2"), publish(2, 5, b"3"));
    let (ping, release) = (written(PacketKind::Pingreq, 0, &[]), written(PacketKind::Pubrel, 2, &[&[0, 6]]));
    for packet in [&subscribe, &acked, &once, &twice, &publish(2, 6, b"4"), &publish(0, 0, b"5"), &ping] {
        talk.says(packet);
    }
    talk.hears(&acknowledged(PacketKind::Puback, 4, 3, &[]));
    talk.hears(&acknowledged(PacketKind::Pubrec, 4, 6, &[]));
    talk.says(&release);
    let again = |packet: &[u8]| [&[packet[0] | DUPLICATE], &packet[1..]].concat();
    assert_eq!(talk.replay(), [connect(4), subscribe, again(&once), again(&twice), ping, release]);
    for packet in [acknowledged(PacketKind::Suback, 4, 2, &[0]), acknowledged(PacketKind::Puback, 4, 4, &[])] {
        assert_eq!(talk.hears(&packet), MqttOutcome::Pass);
    }
    talk.hears(&acknowledged(PacketKind::Pubrec, 4, 5, &[]));
    talk.hears(&acknowledged(PacketKind::Pubcomp, 4, 6, &[]));
    talk.hears(&written(PacketKind::Pingresp, 0, &[]));
    assert_eq!(talk.replay().len(), 2, "the connection and the subscription");
}

#[test]
fn a_broker_that_refuses_the_client_is_told_apart_from_one_that_never_accepted_it() {
    let mut refused = Talk::default();
    refused.says(&connect(4));
    assert_eq!(refused.hears(&connack(4, 5)), MqttOutcome::Pass);
    let mut accepted = Talk::connected(4);
    accepted.replay();
    assert_eq!(accepted.hears(&connack(4, 5)), MqttOutcome::Refused);
}

#[test]
fn nothing_is_repeated_for_a_client_that_has_taken_its_leave() {
    let mut talk = Talk::connected(4);
    talk.says(&written(PacketKind::Disconnect, 0, &[]));
    assert!(talk.replay().is_empty());
}

#[test]
fn the_rest_of_a_packet_of_a_dead_broker_is_forgotten() {
    let mut talk = Talk::connected(4);
    let news = publish(0, 0, b"news");
    assert_eq!(talk.hears(&news[..3]), MqttOutcome::Replace(vec![]));
    talk.replay();
    assert_eq!(talk.hears(&connack(4, 0)), MqttOutcome::Replace(vec![]));
    assert_eq!(talk.hears(&news), MqttOutcome::Pass);
}

#[test]
fn sessions_that_cannot_be_carried_on_say_why() {
    let take = |level: u8, packet: &[u8]| {
        let mut talk = Talk::connected(level);
        talk.session.take(Direction::ToBackend, packet, 1, BOUND)
    };
    assert_eq!(take(4, &[0, 0]), Err(Unfit::Malformed));
    assert_eq!(take(4, &written(PacketKind::Subscribe, 2, &[&[7]])), Err(Unfit::Malformed));
    assert_eq!(take(5, &written(PacketKind::Auth, 0, &[])), Err(Unfit::Authentication));
    let alias = written(PacketKind::Publish, 0, &[&[0, 1], b"t", &[6, 0x01, 1, 0x23, 0, 1, 0x01]]);
    assert_eq!(take(5, &alias), Err(Unfit::TopicAlias));
    assert_eq!(take(4, &publish(1, 1, &[0; 20_000])), Err(Unfit::Full));
    assert_eq!(take(4, &publish(0, 0, &[0; 300_000])), Ok(MqttOutcome::Pass), "it is whole, and not kept");
    assert_eq!(take(4, &publish(0, 0, &[0; 300_000])[..290_000]), Err(Unfit::LongPacket));
}

proptest! {
    /// Wherever the stream is cut into messages, every message that passes has whole packets, and all of them together
    /// are the stream.
    #[test]
    fn messages_are_made_of_whole_packets(
        sizes in prop::collection::vec(0..300_usize, 1..12),
        cuts in prop::collection::vec(1..200_usize, 1..40),
        to_client in any::<bool>(),
    ) {
        let direction = if to_client { Direction::ToClient } else { Direction::ToBackend };
        let packets: Vec<Vec<u8>> = sizes.iter().map(|size| publish(0, 0, &vec![7; *size])).collect();
        let stream = packets.concat();
        let mut session = MqttSession::default();
        let (mut rest, mut passed, mut cuts) = (&stream[..], Vec::new(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (message, others) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            rest = others;
            let whole = match session.take(direction, message, 0, BOUND).unwrap() {
                MqttOutcome::Pass => message.to_vec(),
                MqttOutcome::Replace(packets) => packets,
                MqttOutcome::Refused => unreachable!(),
            };
            let mut left = &whole[..];
            while Packet::take(&mut left).unwrap().is_some() {}
            prop_assert!(left.is_empty(), "half a packet passed");
            passed.extend(whole);
        }
        prop_assert_eq!(passed, stream);
    }

    /// Bytes of any kind pass unharmed, whether they are MQTT or not.
    #[test]
    fn a_session_that_is_given_up_lets_every_byte_pass(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
    ) {
        let mut session = MqttSession::default();
        let mut passed = Vec::new();
        let mut off = false;
        for message in &messages {
            let taken = if off { None } else { session.take(Direction::ToBackend, message, 0, BOUND).ok() };
            match taken {
                Some(MqttOutcome::Pass) => passed.extend(message),
                Some(MqttOutcome::Replace(packets)) => passed.extend(packets),
                Some(MqttOutcome::Refused) => unreachable!(),
                None => {
                    if !off {
                        session.give_up();
                    }
                    off = true;
                    passed.extend(session.forgo(Direction::ToBackend, message));
                }
            }
        }
        if !off {
            passed.extend(session.forgo(Direction::ToBackend, &[]));
        }
        prop_assert_eq!(passed, messages.concat());
    }
}
