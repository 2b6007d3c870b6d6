//! How unlike the course of the last values is to each earlier one.

use serde::{Deserialize, Serialize};

use super::LANES;

/// Blocks per shape.
const SHAPE: usize = 12;
/// Parts per block: a shape is compared at the end of each.
const PARTS: usize = 4;
/// Number of blocks that are remembered, and that many more until the oldest are dropped together.
const HISTORY: usize = 200;
const SLACK: usize = 64;
/// The newest blocks, with which a shape is not compared: it would be compared with itself.
const APART: usize = 3;

/// The means of the last blocks of values, and how far the shape of the last ones is from earlier shapes: the left discord
/// of a matrix profile (Yeh et al. 2016), over means and with a bounded past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Values per part of a block.
    part: usize,
    /// Sum and number of the values of the part that is not complete.
    sum: f64,
    count: usize,
    /// Means of the last parts, oldest first: those of one shape.
    parts: Vec<f32>,
    /// Number of complete parts so far.
    complete: u64,
    /// Means of whole blocks, oldest first.
    blocks: Vec<f32>,
    distance: f32,
}

impl Shape {
    /// `block` is a multiple of four values.
    pub(super) fn new(block: usize) -> Self {
        let part = (block / PARTS).max(1);
        Self { part, sum: 0.0, count: 0, parts: Vec::new(), complete: 0, blocks: Vec::new(), distance: 0.0 }
    }

    /// Adds a value. The distance of the last complete shape from the second nearest of the earlier ones: one that was seen
    /// once is not usual yet. 0 until there are shapes to compare with.
    pub(super) fn distance(&mut self, value: f32) -> f64 {
        self.sum += f64::from(value);
        self.count += 1;
        if self.count == self.part {
            let mean = (self.sum / self.count as f64) as f32;
            (self.sum, self.count) = (0.0, 0);
            self.complete_part(mean);
        }
        f64::from(self.distance)
    }

    fn complete_part(&mut self, mean: f32) {
        if self.parts.len() == SHAPE * PARTS {
            self.parts.rotate_left(1);
            self.parts.pop();
        }
        self.parts.push(mean);
        self.complete += 1;
        if self.parts.len() == SHAPE * PARTS
            && let Some(distance) = self.second_nearest()
        {
            self.distance = distance;
        }
        if self.complete.is_multiple_of(PARTS as u64) {
            let block = self.parts.iter().rev().take(PARTS).sum::<f32>() / PARTS as f32;
            if self.blocks.len() == HISTORY + SLACK {
                self.blocks.drain(..SLACK);
            }
            self.blocks.push(block);
        }
    }

    fn second_nearest(&self) -> Option<f32> {
        let mut shape = [0.0_f32; SHAPE];
        for (mean, parts) in shape.iter_mut().zip(self.parts.chunks_exact(PARTS)) {
            *mean = parts.iter().sum::<f32>() / PARTS as f32;
        }
        let newest = self.blocks.len().saturating_sub(APART);
        let past = self.blocks.get(self.blocks.len().saturating_sub(HISTORY)..newest)?;
        let (mut nearest, mut second) = (f32::MAX, f32::MAX);
        let mut compare = |distance: f32| {
            if distance < second {
                (nearest, second) = (nearest.min(distance), nearest.max(distance));
            }
        };
        let shapes = (past.len() + 1).saturating_sub(SHAPE);
        let in_lanes = shapes - shapes % LANES;
        for start in (0..in_lanes).step_by(LANES) {
            let mut sums = [0.0_f32; LANES];
            for (others, mean) in past.get(start..)?.windows(LANES).zip(&shape) {
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += (other - mean).abs());
            }
            sums.into_iter().for_each(&mut compare);
        }
        for other in past.windows(SHAPE).skip(in_lanes) {
            compare(other.iter().zip(&shape).map(|(other, mean)| (other - mean).abs()).sum());
        }
        (second < f32::MAX).then_some(second)
    }
}
