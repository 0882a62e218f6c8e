//! The trace of RFC 8448 §3: keys from secrets, records from data, and data from records.

use super::{open, seal};
use crate::tls::record::keys::RecordKeys;
use crate::tls::record::{Cipher, RecordVersion, Records, Role, StreamEnd};
use crate::tls::secrets::Secret;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn keys(secret: &str) -> RecordKeys {
    RecordKeys::tls13(Cipher::Aes128Gcm, Secret::new(&hex(secret)).unwrap(), 0).unwrap()
}

fn client() -> Records {
    Records::new(RecordVersion::Tls13, Role::Client, keys(CLIENT_SECRET), keys(SERVER_SECRET))
}

fn server() -> Records {
    Records::new(RecordVersion::Tls13, Role::Server, keys(SERVER_SECRET), keys(CLIENT_SECRET))
}

fn data() -> Vec<u8> {
    (0..50).collect()
}

#[test]
fn the_client_seals_the_record_of_the_trace_and_the_server_opens_it() {
    assert_eq!(seal(&mut client(), &data()), hex(CLIENT_DATA));
    assert_eq!(open(&mut server(), &hex(CLIENT_DATA)).0, data());
}

#[test]
fn the_client_swallows_the_ticket_of_the_trace_and_opens_the_record_behind_it() {
    let mut client = client();
    let both = [hex(TICKET), hex(SERVER_DATA)].concat();
    let (opened, end) = open(&mut client, &both);
    assert_eq!((opened, end.end), (data(), None));
    let mut server = server();
    // The ticket had the number 0.
    server.sealing.sequence = 1;
    assert_eq!(seal(&mut server, &data()), hex(SERVER_DATA));
}

#[test]
fn the_alerts_of_the_trace_end_both_ways() {
    let (mut client, mut server, mut out) = (client(), server(), [0; 64]);
    seal(&mut client, &data());
    let length = client.seal_close(&mut out);
    assert_eq!(out[..length], hex(CLIENT_CLOSE));
    open(&mut server, &hex(CLIENT_DATA));
    assert_eq!(open(&mut server, &hex(CLIENT_CLOSE)).1.end, Some(StreamEnd::Closed));
    server.sealing.sequence = 1;
    seal(&mut server, &data());
    let length = server.seal_close(&mut out);
    assert_eq!(out[..length], hex(SERVER_CLOSE));
    open(&mut client, &[hex(TICKET), hex(SERVER_DATA)].concat());
    assert_eq!(open(&mut client, &hex(SERVER_CLOSE)).1.end, Some(StreamEnd::Closed));
}

/// RFC 8448 has no KeyUpdate; the secrets that follow its own are those of Botan's tests of the same trace.
#[test]
fn the_secrets_after_a_key_update_are_those_that_another_implementation_derives() {
    for (first, next) in [(CLIENT_SECRET, NEXT_CLIENT_SECRET), (SERVER_SECRET, NEXT_SERVER_SECRET)] {
        assert!(keys(first).next().unwrap().are(&keys(next)));
    }
}

const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
const NEXT_CLIENT_SECRET: &str = "fcdfcc72725aaee48bf64e4fd8b749cdbdbab39d90da0b26e2245ca6ea167207";
const NEXT_SERVER_SECRET: &str = "51921b8aa3001976eb401d0a4319a8516416a6c56001a357e5d162031e84f916";
const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a\
    20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb\
    501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
const TICKET: &str = "17030300de3a6b8f90414a97d6959c3487680de5134a2b240e6cffac116e95d41d6af8f6b580dcf3d11d63c758db28\
    9a015940252f55713e061dc13e078891a38efbcf5753ad8ef170ad3c7353d16d9da773b9ca7f2b9fa1b6c0d4a3d03f75e09c30ba1e62972a\
    c46f75f7b981be63439b2999ce13064615139891d5e4c5b406f16e3fc181a77ca475840025db2f0a77f81b5ab05b94c01346755f69232c86\
    519d86cbeeac87aac347d143f9605d64f650db4d023e70e952ca49fe5137121c74bc2697687e248746d6df353005f3bce18696129c815355\
    6b3b6c6779b37bf15985684f";
const CLIENT_CLOSE: &str = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
const SERVER_CLOSE: &str = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";
