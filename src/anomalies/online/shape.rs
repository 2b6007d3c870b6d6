//! How unlike the course of the last values is to each earlier one.

use serde::{Deserialize, Serialize};

use super::LANES;

/// Blocks per shape.
const SHAPE: usize = 12;
/// Parts per block, at most: a shape is compared at the end of each.
const PARTS: usize = 4;
/// Values per part, at least.
const LEAST_PART: usize = 2;
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
    /// That of the last complete shape.
    distance: Option<f32>,
    /// Parts per block.
    #[serde(default = "most_parts")]
    per_block: usize,
}

/// What each block had before it was kept.
fn most_parts() -> usize {
    PARTS
}

impl Shape {
    /// `block` is a multiple of four values.
    pub(super) fn new(block: usize) -> Self {
        let part = (block / PARTS).max(LEAST_PART);
        let (parts, blocks) = (Vec::new(), Vec::new());
        Self { part, sum: 0.0, count: 0, parts, complete: 0, blocks, distance: None, per_block: block / part }
    }

    /// Adds a value. The distance of the last complete shape from the second nearest of the earlier ones: one that was seen
    /// once is not usual yet. `None` until there are shapes to compare with.
    pub(super) fn distance(&mut self, value: f32) -> Option<f64> {
        self.sum += f64::from(value);
        self.count += 1;
        if self.count == self.part {
            let mean = (self.sum / self.count as f64) as f32;
            (self.sum, self.count) = (0.0, 0);
            self.complete_part(mean);
        }
        self.distance.map(f64::from)
    }

    fn complete_part(&mut self, mean: f32) {
        if self.parts.len() == SHAPE * self.per_block {
            self.parts.rotate_left(1);
            self.parts.pop();
        }
        self.parts.push(mean);
        self.complete += 1;
        if self.parts.len() == SHAPE * self.per_block
            && let Some(distance) = self.second_nearest()
        {
            self.distance = Some(distance);
        }
        if self.complete.is_multiple_of(self.per_block as u64) {
            let block = self.parts.iter().rev().take(self.per_block).sum::<f32>() / self.per_block as f32;
            if self.blocks.len() == HISTORY + SLACK {
                self.blocks.drain(..SLACK);
            }
            self.blocks.push(block);
        }
    }

    fn second_nearest(&self) -> Option<f32> {
        let mut shape = [0.0_f32; SHAPE];
        for (mean, parts) in shape.iter_mut().zip(self.parts.chunks_exact(self.per_block.max(1))) {
            *mean = parts.iter().sum::<f32>() / self.per_block as f32;
        }
        let newest = self.blocks.len().saturating_sub(APART);
        let past = self.blocks.get(self.blocks.len().saturating_sub(HISTORY)..newest)?;
        let mut two = Nearest { first: [f32::MAX; LANES], second: [f32::MAX; LANES] };
        let mut starts = (0..(past.len() + 1).saturating_sub(SHAPE)).step_by(LANES);
        // As many shapes at once as there are lanes.
        let rest = starts.find_map(|start| {
            let past = past.get(start..)?;
            let Some(past) = past.first_chunk::<{ LANES + SHAPE - 1 }>() else { return Some(past) };
            let mut sums = [0.0_f32; LANES];
            for (others, mean) in past.windows(LANES).zip(&shape) {
                sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += (other - mean).abs());
            }
            two.add(sums);
            None
        });
        for other in rest.unwrap_or_default().windows(SHAPE) {
            let mut sums = [f32::MAX; LANES];
            sums[0] = other.iter().zip(&shape).map(|(other, mean)| (other - mean).abs()).sum();
            two.add(sums);
        }
        let second = two.second();
        (second < f32::MAX).then_some(second)
    }
}

/// The two least distances of each lane.
struct Nearest {
    first: [f32; LANES],
    second: [f32; LANES],
}

impl Nearest {
    fn add(&mut self, distances: [f32; LANES]) {
        // Not `f32::min`, which asks for NaN first: none is here, and this is one instruction.
        let (min, max) = (|a, b| if a < b { a } else { b }, |a, b| if a > b { a } else { b });
        for ((first, second), distance) in self.first.iter_mut().zip(&mut self.second).zip(distances) {
            *second = min(max(distance, *first), *second);
            *first = min(distance, *first);
        }
    }

    /// The second least of all lanes.
    fn second(&self) -> f32 {
        let (mut first, mut second) = (f32::MAX, f32::MAX);
        for distance in self.first.into_iter().chain(self.second) {
            second = second.min(first.max(distance));
            first = first.min(distance);
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_was_kept_by_an_earlier_version_goes_on() {
        let kept =
            rmp_serde::to_vec(&(1_usize, 0.5_f64, 0_usize, vec![1.0_f32], 1_u64, Vec::<f32>::new(), 0.0_f32));
        let mut shape: Shape = rmp_serde::from_slice(&kept.unwrap()).unwrap();
        assert_eq!((shape.part, shape.per_block), (1, PARTS));
        for value in 0..200_u8 {
            shape.distance(f32::from(value % 16));
        }
        assert_eq!(shape.parts.len(), SHAPE * PARTS);
        assert!(shape.distance(100.0).is_some_and(|distance| distance > 0.0));
    }

    #[test]
    fn the_second_nearest_is_that_of_all_lanes() {
        let mut shape = Shape::new(4);
        // Noise of a small generator, so that the distances differ.
        let mut bits = 1_u32;
        for _ in 0..900 {
            bits ^= bits << 13;
            bits ^= bits >> 17;
            bits ^= bits << 5;
            shape.distance((bits >> 8) as f32 / 1e6);
            let newest = shape.blocks.len().saturating_sub(APART);
            let past = &shape.blocks[shape.blocks.len().saturating_sub(HISTORY)..newest];
            let means: Vec<f32> =
                shape.parts.chunks_exact(2).map(|parts| parts.iter().sum::<f32>() / 2.0).collect();
            let distance =
                |other: &[f32]| other.iter().zip(&means).map(|(other, mean)| (other - mean).abs()).sum();
            let mut distances: Vec<f32> = past.windows(SHAPE).map(distance).collect();
            distances.sort_by(f32::total_cmp);
            if shape.parts.len() == 2 * SHAPE {
                assert_eq!(shape.second_nearest(), distances.get(1).copied());
            }
        }
    }
}
