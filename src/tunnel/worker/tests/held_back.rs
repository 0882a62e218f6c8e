//! Clients that are held back, while their tunnels are to go to another process.

use std::io::{Read, Write};
use std::num::NonZeroU64;

use super::plain::plain;
use crate::access_log::AccessLog;
use crate::config::{Rates, TunnelLimits, TunnelRates};
use crate::tunnel::{Batch, RateTable, Tunnels};

/// A message of one byte, with a key of zeros.
const MESSAGE: [u8; 7] = [0x81, 0x81, 0, 0, 0, 0, b'x'];

#[test]
fn bytes_that_wait_for_their_turn_do_not_go_to_a_program_that_would_drop_them() {
    let tunnels = Tunnels::start(1, &AccessLog::off()).unwrap();
    let each = Rates { messages: NonZeroU64::new(1), bytes: None };
    tunnels.limit_rates(RateTable::new([("u", TunnelRates { each, ..TunnelRates::default() })].into_iter()));
    let (tunnel, mut far) = plain("held", TunnelLimits::default());
    tunnels.open(tunnel);
    // One passes, the others wait for a second each.
    far.client.write_all(&MESSAGE.repeat(100)).unwrap();
    far.backend.read_exact(&mut [0; MESSAGE.len()]).unwrap();

    let Batch { frozen, busy, .. } = tunnels.freeze(8, false);
    assert_eq!((frozen.len(), busy), (0, 1), "a program before TLS in passports");
    let Batch { frozen, busy, .. } = tunnels.freeze(8, true);
    assert_eq!((frozen.len(), busy), (1, 0));
}
