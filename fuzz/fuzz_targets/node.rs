//! Hostile bytes for nodes of all four kinds: no panic, and what is decoded can be encoded again.

#![no_main]

use kluis::format::node::Node;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(node) = Node::decode(data) {
        let again = node.encode().expect("what was decoded can be encoded");
        assert_eq!(Node::decode(&again).as_ref(), Ok(&node));
    }
});
