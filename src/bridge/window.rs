//! The acknowledgements that are owed to the MQTT broker, in the order of receipt: MQTT demands that order (MQTT 5.0,
//! 4.6), so a message that Kafka has acknowledged waits for those before it.

use std::collections::VecDeque;

/// The messages of QoS 1 of one connection.
#[derive(Debug, Default)]
pub(super) struct Window {
    owed: VecDeque<Owed>,
}

#[derive(Debug)]
struct Owed {
    /// The bridge's own number of the message; they rise.
    number: usize,
    /// The number by which the broker knows it.
    packet: u16,
    is_stored: bool,
}

impl Window {
    pub(super) fn received(&mut self, number: usize, packet: u16) {
        self.owed.push_back(Owed { number, packet, is_stored: false });
    }

    /// Kafka has the message. One of an earlier connection is not known here: the broker sends it again.
    pub(super) fn stored(&mut self, number: usize) {
        if let Ok(index) = self.owed.binary_search_by_key(&number, |owed| owed.number) {
            self.owed[index].is_stored = true;
        }
    }

    /// The packets that can be acknowledged now; each is returned once.
    pub(super) fn acknowledge(&mut self) -> Vec<u16> {
        let ready = self.owed.iter().take_while(|owed| owed.is_stored).count();
        self.owed.drain(..ready).map(|owed| owed.packet).collect()
    }

    /// The connection is gone, and its packet numbers with it.
    pub(super) fn clear(&mut self) {
        self.owed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_acknowledged_after_those_before_it() {
        let mut window = Window::default();
        for (number, packet) in [(3, 10), (5, 11), (6, 12)] {
            window.received(number, packet);
        }
        window.stored(5);
        assert_eq!(window.acknowledge(), [0_u16; 0]);
        window.stored(3);
        assert_eq!(window.acknowledge(), [10, 11]);
        window.stored(3);
        window.stored(4);
        assert_eq!(window.acknowledge(), [0_u16; 0]);
        window.stored(6);
        assert_eq!(window.acknowledge(), [12]);
    }

    #[test]
    fn nothing_of_a_lost_connection_is_acknowledged_on_the_next_one() {
        let mut window = Window::default();
        window.received(1, 1);
        window.clear();
        window.received(2, 1);
        window.stored(1);
        assert_eq!(window.acknowledge(), [0_u16; 0]);
    }
}
