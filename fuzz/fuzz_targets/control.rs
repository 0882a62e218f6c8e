//! Lines of the control socket: a request or reply that is understood is the same after it was written and read again,
//! and what is not understood is answered in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhaul::control::{ControlRequest, Reply};

fuzz_target!(|line: &[u8]| {
    match ControlRequest::parse(line) {
        Ok(request) => {
            let written = request.to_line();
            is_one_line(&written);
            assert_eq!(ControlRequest::parse(written.as_bytes()), Ok(request));
        }
        Err(reply) => {
            let written = reply.to_line();
            is_one_line(&written);
            assert_eq!(serde_json::from_str::<Reply>(&written).expect("a reply of ours"), reply);
        }
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(line) {
        let written = reply.to_line();
        is_one_line(&written);
        // A number that is not in its shortest form may lose its last bit once, and no more.
        let again: Reply = serde_json::from_str(&written).expect("a reply of ours");
        let twice: Reply = serde_json::from_str(&again.to_line()).expect("a reply of ours");
        assert_eq!(again, twice);
    }
});

fn is_one_line(text: &str) {
    assert_eq!(text.find('\n'), Some(text.len() - 1));
}
