//! Memory by name, for reports: which allocation an address lies in, and who wrote there last.

use super::clocks::Stamp;
use super::instr::Space;
use super::report::Place;
use super::schedule::{Block, Grid};
use super::warp::thread_index;

impl Grid<'_> {
    /// `byte 8 of a, which warp 0 lane 3 wrote last, at PTX line 20`, as a thread of `block` sees it; the writer as far as
    /// the checkers of races keep track of it.
    pub fn whereabouts(&self, block: &Block, space: Space, address: u64, bytes: usize) -> String {
        match space {
            Space::Local => format!("byte {address} of the thread's local memory"),
            Space::Param => format!("byte {address} of the parameters"),
            Space::Shared => match block.shared.spot(address, bytes) {
                Some(offset) => {
                    let writer = block.shared.last_writer(offset, bytes).map(|stamp| (block.serial, stamp));
                    let place = block.shared.describe_byte(offset) + &block.mbarriers.describe(offset);
                    place + &self.last_write(block, writer)
                }
                None => "outside the shared memory of the block".to_owned(),
            },
            Space::Global | Space::Const | Space::Generic => {
                let spot = self.memory.spot(address, bytes);
                match spot.and_then(|spot| Some((spot.offset, self.memory.segment(spot.segment)?))) {
                    Some((offset, held)) => {
                        let writer = held.trace.written_since(offset, bytes, self.first);
                        format!("byte {offset} of {}{}", held.label, self.last_write(block, writer))
                    }
                    None => "in no allocation".to_owned(),
                }
            }
        }
    }

    fn last_write(&self, block: &Block, writer: Option<(u32, Stamp)>) -> String {
        writer.map_or_else(String::new, |(owner, stamp)| {
            let place = Place::of(self.function, stamp.pc());
            format!(", which {} wrote last, at {place}", self.party(block, owner, stamp))
        })
    }

    /// The thread that an access is stamped with; of another CTA also the CTA.
    pub fn party(&self, block: &Block, owner: u32, stamp: Stamp) -> String {
        let (warp, lane) = stamp.party();
        if owner == block.serial {
            return format!("warp {warp} lane {lane}");
        }
        let [x, y, z] = thread_index((owner - self.first) as usize, self.shape.launch.grid);
        format!("block ({x},{y},{z}) warp {warp} lane {lane}")
    }
}
