//! The flight recorder: lines that were recorded but not written, shown when something goes wrong.
//!
//! They never leave the ring. The drain reads them like all others but gives only the older half of a ring back, so that of each ring
//! the last half is still there. A dump walks over that history, keeps the lines that no sink has seen, sorts them by time, and writes
//! them between two lines of its own. What one dump has shown the next does not repeat.

use log::Level;

use super::{Drain, is_written, look_up, note};
use crate::callsite;
use crate::line::Line;
use crate::record::{HEADER_BYTES, id};

impl Drain {
    /// Writes what the recorder holds.
    pub(super) fn dump(&mut self, reason: &str) {
        let clock = self.clock.line();
        let Self {
            sources,
            sites,
            outputs,
            control,
            own,
            ..
        } = self;
        // (ticks, source, position, the index of the context that held)
        let mut found = Vec::new();
        let mut origins = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            origins.push(source.trail_origin.clone());
            let mut position = source.released();
            while position < source.position() {
                let Ok((head, bytes)) = source.record_at(position) else {
                    break;
                };
                if head.site == id::CONTEXT {
                    let mut origin = source.trail_origin.clone();
                    if origin.set_context(&bytes[HEADER_BYTES..]).is_ok() {
                        origins.push(origin);
                    }
                } else if head.site >= id::DYNAMIC && position >= source.dumped {
                    let known =
                        (head.site >= callsite::FIRST_ID).then(|| look_up(sites, head.site));
                    if !is_written(known, &head) {
                        found.push((head.ticks, index, position, origins.len() - 1));
                    }
                }
                position += head.size as u64;
            }
        }
        sources
            .iter_mut()
            .for_each(|source| source.dumped = source.position());
        if found.is_empty() {
            return;
        }
        found.sort_unstable();
        let begin = clock.wall_ns(found[0].0);
        let count = found.len();
        note(
            outputs,
            own,
            Level::Info,
            &format!("flight recorder: {count} lines, because of {reason}"),
            begin,
        );
        let mut last = begin;
        for (ticks, index, position, origin) in found {
            let Ok((head, bytes)) = sources[index].record_at(position) else {
                continue;
            };
            last = clock.wall_ns(ticks);
            let line = if head.site >= callsite::FIRST_ID {
                Ok(Line::of_site(
                    head,
                    bytes,
                    &look_up(sites, head.site).site,
                    &origins[origin],
                    last,
                ))
            } else {
                Line::dynamic(head, bytes, &origins[origin], last)
            };
            if let Ok(line) = line {
                outputs
                    .iter_mut()
                    .for_each(|output| output.line(&line, control));
            }
        }
        note(outputs, own, Level::Info, "flight recorder: end", last);
    }
}
