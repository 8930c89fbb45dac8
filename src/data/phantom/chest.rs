//! One chest laid out on one film: fields of attenuation that findings change, and the mask and boxes they leave.

use super::anatomy::{Anatomy, Pose};
use super::canvas::{Field, Frame};
use super::{Bounds, skeleton};

/// The layers of a film before exposure, [height, width] each.
pub(super) struct Chest {
    pub anatomy: Anatomy,
    pub frame: Frame,
    pub pose: Pose,
    /// Soft tissue as if there were no air in it.
    pub body: Field,
    /// What the air takes from it.
    pub air: Field,
    pub bones: Field,
    /// Vessels and texture; they count as far as there is air around them.
    pub markings: Field,
    /// Lesions, lines and metal on top.
    pub added: Field,
    /// 255 where a finding is, else 0.
    pub mask: Vec<u8>,
    pub boxes: Vec<Bounds>,
}

impl Chest {
    /// The chest without findings.
    pub fn new(anatomy: Anatomy, frame: Frame, pose: Pose) -> Self {
        let (mut body, air) = anatomy.render(&frame, &pose);
        skeleton::muscles(&anatomy, &frame, &mut body);
        let bones = skeleton::bones(&anatomy, &frame, &pose);
        let markings = skeleton::markings(&anatomy, &frame, &pose);
        let added = Field::zeros(frame.width, frame.height);
        let mask = vec![0; frame.width * frame.height];
        Self { anatomy, frame, pose, body, air, bones, markings, added, mask, boxes: Vec::new() }
    }

    /// The exponent of Beer's law at each pixel.
    pub fn attenuation(&self) -> Field {
        let mut sum = self.body.clone();
        for (index, value) in sum.values.iter_mut().enumerate() {
            let air = self.air.values[index];
            let around = (air / self.anatomy.air).min(1.0);
            *value = (*value - air + self.markings.values[index] * around).max(0.0)
                + self.bones.values[index].min(2.0 * *value)
                + self.added.values[index];
        }
        sum
    }

    /// Enters a finding's pixels into the mask and their bounds into the boxes; nothing where there is none.
    pub fn record(&mut self, label: &'static str, pixels: &[usize]) {
        let width = self.frame.width;
        let columns = || pixels.iter().map(|index| index % width);
        let rows = || pixels.iter().map(|index| index / width);
        if let (Some(left), Some(right), Some(top), Some(bottom)) =
            (columns().min(), columns().max(), rows().min(), rows().max())
        {
            self.boxes.push(Bounds { label, x: left, y: top, w: right - left + 1, h: bottom - top + 1 });
        }
        for &index in pixels {
            self.mask[index] = 255;
        }
    }
}
