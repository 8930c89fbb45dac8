//! Barriers in shared memory (9.7.13.15). A wait that may suspend gives its turn to other warps.

use super::kind::Kind;
use super::statement::{Decoder, Result};
use crate::cuda::driver::emulated::instr::{Mbarrier, MbarrierOp, Op, Space};
use crate::cuda::driver::emulated::registers::Register;
use crate::cuda::driver::emulated::scalar::Scalar;
use crate::cuda::driver::emulated::scalar::integer::Narrow;
use crate::cuda::ptx::Operand;

impl Decoder<'_> {
    /// `mbarrier`.
    pub(super) fn mbarrier(&mut self) -> Result<()> {
        let words = [
            ("init", 0),
            ("inval", 1),
            ("arrive", 2),
            ("arrive_drop", 3),
            ("test_wait", 4),
            ("try_wait", 5),
            ("pending_count", 6),
        ];
        let Some(what) = self.take(&words) else { return self.transaction() };
        self.needs(80)?;
        if self.kind()? != Kind::Bits(64) {
            return self.unsupported();
        }
        let (op, at) = match what {
            0 => (MbarrierOp::Init(self.word(1, Kind::Unsigned(32))?), 0),
            1 => (MbarrierOp::Invalidate, 0),
            2 | 3 => (self.arrival(what == 3)?, 1),
            4 => (self.test(false)?, 1),
            5 => (self.test(true)?, 1),
            _ => return self.pending_count(),
        };
        self.push_mbarrier(op, at, what == 5)
    }

    /// `mbarrier.expect_tx`, `mbarrier.complete_tx` (9.7.13.15.11, 9.7.13.15.12).
    fn transaction(&mut self) -> Result<()> {
        let Some(expects) = self.take(&[("expect_tx", true), ("complete_tx", false)]) else {
            return self.unsupported();
        };
        self.needs(90)?;
        if self.kind()? != Kind::Bits(64) {
            return self.unsupported();
        }
        if self.flag("relaxed") {
            self.require(&[("cta", ()), ("cluster", ())])?;
        }
        let bytes = self.word(1, Kind::Unsigned(32))?;
        self.push_mbarrier(
            if expects { MbarrierOp::ExpectBytes(bytes) } else { MbarrierOp::CompleteBytes(bytes) },
            0,
            false,
        )
    }

    /// `cp.async.mbarrier.arrive` (9.7.13.15.18), after `cp.async.mbarrier`.
    pub(super) fn arrive_copies(&mut self) -> Result<()> {
        self.require(&[("arrive", ())])?;
        self.needs(80)?;
        if self.kind()? != Kind::Bits(64) {
            return self.unsupported();
        }
        let expected = self.flag("noinc");
        self.push_mbarrier(MbarrierOp::ArriveCopies { expected }, 0, false)
    }

    fn push_mbarrier(&mut self, op: MbarrierOp, at: usize, suspends: bool) -> Result<()> {
        let space = self.take(&[("shared", Space::Shared), ("shared::cta", Space::Shared)]).unwrap_or(Space::Generic);
        let (space, address) = self.address(at, space)?;
        self.push(Op::Mbarrier(Mbarrier { space, address, op, suspends }));
        Ok(())
    }

    /// Arrivals release to the CTA, which they may say; several at once need `.noComplete` before sm_90.
    fn arrival(&mut self, drops: bool) -> Result<MbarrierOp> {
        if self.flag("release") {
            self.require(&[("cta", ()), ("cluster", ())])?;
        }
        let state = match self.operand(0)? {
            Operand::Sink => Register::Sink,
            operand => self.target_of(operand, 64, false)?.0,
        };
        if self.flag("expect_tx") {
            self.needs(90)?;
            let (expects, count) = (Some(self.word(2, Kind::Unsigned(32))?), self.constant_word(1)?);
            return Ok(MbarrierOp::Arrive { state, count, drops, completes: true, expects });
        }
        let completes = !self.flag("noComplete");
        if completes && self.count() > 2 {
            self.needs(90)?;
        }
        let counted = self.count() > 2 || !completes;
        let count = if counted { self.word(2, Kind::Unsigned(32))? } else { self.constant_word(1)? };
        Ok(MbarrierOp::Arrive { state, count, drops, completes, expects: None })
    }

    /// A wait that may suspend (`tries`) may say for how long, in nanoseconds.
    fn test(&mut self, tries: bool) -> Result<MbarrierOp> {
        if tries {
            self.needs(90)?;
        }
        if self.flag("acquire") {
            self.require(&[("cta", ()), ("cluster", ())])?;
        }
        if tries && self.count() > 3 {
            self.word(3, Kind::Unsigned(32))?;
        }
        let to = self.operand(0)?;
        let to = self.predicate_of(to)?;
        Ok(match self.flag("parity") {
            true => MbarrierOp::TestParity(to, self.word(2, Kind::Unsigned(32))?),
            false => MbarrierOp::TestState(to, self.wide(2, Kind::Bits(64))?),
        })
    }

    /// `mbarrier.pending_count` (9.7.13.15.17): the low half of a state.
    fn pending_count(&mut self) -> Result<()> {
        let (to, state) = (self.destination_word(32)?, self.wide(1, Kind::Bits(64))?);
        self.scalar(Scalar::Narrow(Narrow::Truncate { bits: 32, signed: false, keep: 32 }, to, state))
    }
}
