//! A case on the emulated device under more than one schedule: what threads do in any order must not show in the results.

use std::sync::Arc;

use super::Spot;
use super::cases::{Expected, Flat};
use super::device::{self, Failure};
use crate::base::Rng;
use crate::cuda::Modules;
use crate::cuda::driver::emulated::Emulated;
use crate::kernels::Library;
use crate::train::device::schedule;

const STREAM: u32 = u32::from_be_bytes(*b"schd");

/// An emulated device whose schedule is changed between runs.
pub struct Scheduled {
    device: Arc<Emulated>,
    /// The kernels on it.
    pub modules: Modules,
}

impl Scheduled {
    /// With these kernels.
    pub fn new(library: Library) -> Self {
        let device = Arc::new(Emulated::default());
        Self { modules: Modules::new(device.clone(), library), device }
    }

    /// Runs the case on each of the schedules and holds what comes out against `expected`, and the second result's bits
    /// against the first's: how much of the tolerance is used up.
    pub fn check(
        &mut self,
        spot: &Spot,
        kernel: &'static str,
        expected: &Expected,
        [one, other]: [u64; 2],
    ) -> Result<f64, Failure> {
        let case = spot.case();
        let mut run = |number: u64| {
            self.device.set_options(schedule(number));
            let got = device::run(&mut self.modules, &case, kernel, spot.storage)?;
            let used = expected.accepts(&got).map_err(Failure::Wrong)?;
            Ok((got, used))
        };
        let mut on = |number| run(number).map_err(|failure: Failure| failure.on(number));
        let ((first, used), (second, _)) = (on(one)?, on(other)?);
        match difference(&first, &second) {
            None => Ok(used),
            Some(place) => Err(Failure::Wrong(format!("schedules {one} and {other} give other bits: {place}"))),
        }
    }
}

/// The two schedules of a case: the natural one and `asked`, or two drawn for the case if that is 0.
pub fn pair(spot: &Spot, asked: u64) -> [u64; 2] {
    let mut rng = Rng::new(spot.draw, STREAM, spot.subject.stream(spot.variant).into());
    // 0 is the natural one; an even and an odd number are two.
    let [even, odd] = [(u64::from(rng.next_u32()) + 1) << 1, u64::from(rng.next_u32()) << 1 | 1];
    if asked == 0 { [even, odd] } else { [0, asked] }
}

/// The first place in which two results differ.
fn difference(one: &[Flat], other: &[Flat]) -> Option<String> {
    one.iter().zip(other).enumerate().find_map(|(output, ((spec, one), (_, other)))| {
        let at = one.iter().zip(other).position(|(one, other)| one.to_bits() != other.to_bits())?;
        Some(format!("output {output} {}, element {at}: {:e} and {:e}", spec.shape, one[at], other[at]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::REGISTRY;
    use crate::program::Size;
    use crate::verify::compare::Storage;

    /// The squares of the threads of a block, added up in shared memory in whatever order they come.
    const ANY_ORDER: &str = "
.visible .entry finite_piece_f32_eights_sm80(.param .align 8 .b8 p[32])
{
    .reg .pred %p<3>; .reg .b32 %r<12>; .reg .f32 %f<5>; .reg .b64 %rd<8>;
    .shared .align 4 .f32 squares;
    .shared .align 4 .u32 bad;
    ld.param.u64 %rd1, [p];
    ld.param.u64 %rd2, [p+8];
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %tid.x;
    mul.wide.u32 %rd3, %r1, 16;
    add.s64 %rd1, %rd1, %rd3;
    ld.global.u64 %rd4, [%rd1];
    ld.global.v2.u32 {%r3, %r4}, [%rd1+8];
    mul.wide.u32 %rd5, %r1, 8;
    add.s64 %rd2, %rd2, %rd5;
    setp.ne.u32 %p1, %r2, 0;
    @%p1 bra ready;
    mov.f32 %f1, 0f00000000;
    st.shared.f32 [squares], %f1;
    st.shared.u32 [bad], 0;
ready:
    bar.sync 0;
    mov.u32 %r5, %r2;
next:
    setp.ge.u32 %p2, %r5, %r3;
    @%p2 bra summed;
    mul.wide.u32 %rd6, %r5, 4;
    add.s64 %rd6, %rd4, %rd6;
    ld.global.f32 %f2, [%rd6];
    mov.b32 %r6, %f2;
    and.b32 %r6, %r6, 0x7f800000;
    setp.eq.u32 %p2, %r6, 0x7f800000;
    @%p2 atom.shared.add.u32 %r7, [bad], 1;
    mul.f32 %f2, %f2, %f2;
    atom.shared.add.f32 %f3, [squares], %f2;
    add.u32 %r5, %r5, 256;
    bra next;
summed:
    bar.sync 0;
    @%p1 bra done;
    ld.shared.f32 %f4, [squares];
    ld.shared.u32 %r8, [bad];
    setp.ne.u32 %p2, %r4, 0;
    @%p2 bra counts;
    mov.f32 %f4, 0f00000000;
counts:
    mov.b32 %r9, %f4;
    st.global.v2.u32 [%rd2], {%r9, %r8};
done:
    ret;
}
";

    /// A case of [`Finite`](crate::ops::finite::Finite) whose squares are many.
    fn spot(draw: u64) -> Spot {
        let position = REGISTRY.iter().position(|&(name, _)| name == "finite").unwrap();
        let size = Size { batch: 3, side: 9, channels: 100, extra: 9 };
        Spot { subject: position.into(), variant: 0, size, draw, storage: Storage::F32 }
    }

    #[test]
    fn a_sum_in_whatever_order_is_noticed_and_within_the_tolerance() {
        let mut library = Library::shipped();
        let check = |library: &Library, draw, schedules: Option<[u64; 2]>| {
            let spot = spot(draw);
            let [kernel] = spot.case().op.cuda() else { panic!("one kernel") };
            let schedules = schedules.unwrap_or_else(|| pair(&spot, 0));
            Scheduled::new(library.clone()).check(&spot, kernel, &spot.expected().unwrap(), schedules)
        };
        check(&library, 0, None).unwrap();
        let text = library.find("finite_piece_f32_eights_sm80").unwrap().0;
        let (path, shipped) = (text.path.clone(), text.ptx.to_string());
        let (head, _) = shipped.split_once(".visible .entry").unwrap();
        let (_, finish) = shipped.rsplit_once(".visible .entry").unwrap();
        library.replace(&path, format!("{head}{ANY_ORDER}.visible .entry{finish}")).unwrap();
        // Two orders may round to one number by chance, but not in most of some cases.
        let mut noticed = 0;
        for draw in 0..8 {
            check(&library, draw, Some([7, 7])).unwrap();
            if let Err(failure) = check(&library, draw, None) {
                assert!(failure.to_string().contains("give other bits: output 0"), "{failure}");
                noticed += 1;
            }
        }
        assert!(noticed >= 4, "{noticed} of 8");
    }

    #[test]
    fn a_failure_names_the_schedule_that_repeats_it() {
        let (spot, mut library) = (spot(5), Library::shipped());
        let text = library.find("finite_piece_f32_eights_sm80").unwrap().0;
        let (path, shipped) = (text.path.clone(), text.ptx.to_string());
        library.replace(&path, shipped.replace("bar.sync \t0;", "")).unwrap();
        let [kernel] = spot.case().op.cuda() else { panic!("one kernel") };
        let failure = Scheduled::new(library).check(&spot, kernel, &spot.expected().unwrap(), [0, 9]).unwrap_err();
        assert!(failure.is_report() && failure.to_string().contains("--device cuda-emulated"), "{failure}");
    }

    #[test]
    fn cases_have_schedules_of_their_own() {
        let [one, other] = pair(&spot(5), 0);
        assert!(one != other && one != 0 && other != 0);
        assert_ne!(pair(&spot(6), 0), [one, other]);
        assert_eq!(pair(&spot(5), 3), [0, 3]);
    }
}
