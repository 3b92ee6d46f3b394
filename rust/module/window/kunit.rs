// SPDX-License-Identifier: GPL-2.0

//! Tests of [`Windows`](super::Windows).

use kernel::prelude::*;

#[kunit_tests(fmi_window)]
mod tests {
    use super::super::{
        bucket::MAX_WINDOWS,
        *, //
    };

    const PMD: usize = 2 << 20;

    fn windows() -> Result<Pin<KBox<Windows>>> {
        KBox::pin_init(Windows::new(), GFP_KERNEL)
    }

    /// Fork of MM 1 to MM 2 copies VMA 11 as VMA 12.
    fn copy() -> Kind {
        Kind::copy(1, 2, 11, 12, 4 * PMD, 8 * PMD)
    }

    /// mremap of MM 1 moves two PMDs from VMA 21 to VMA 22.
    fn forth() -> Kind {
        Kind::Move {
            mm: 1,
            old_vma: 21,
            new_vma: 22,
            old_addr: 4 * PMD,
            new_addr: 16 * PMD,
            len: 2 * PMD,
            mark: 16 * PMD,
        }
    }

    #[test]
    fn copy_is_judged_by_its_mark() -> Result {
        let windows = windows()?;
        let window = windows.open(5, copy()).ok_or(ENOSPC)?;
        let child = windows.judge(2, 12, 5 * PMD);
        let parent = windows.judge(1, 11, 5 * PMD);
        assert!(child.unwalked && child.pending == window.ticket);
        assert!(!parent.unwalked && parent.pending == window.ticket);
        windows.advance(&window, 6 * PMD);
        let (child, parent) = (windows.judge(2, 12, 5 * PMD), windows.judge(1, 11, 5 * PMD));
        assert!(!child.unwalked && child.pending == 0);
        assert!(!parent.unwalked && parent.pending == 0);
        assert!(windows.judge(2, 12, 6 * PMD).unwalked);
        // A mark never goes back.
        windows.advance(&window, 5 * PMD);
        assert!(!windows.judge(2, 12, 6 * PMD - 1).unwalked);
        assert!(!windows.judge(2, 13, 7 * PMD).unwalked);
        windows.close(&window);
        assert!(!windows.judge(2, 12, 7 * PMD).unwalked && !windows.any_open());
        Ok(())
    }

    #[test]
    fn copy_covers_what_it_has_yet_to_reach() -> Result {
        let windows = windows()?;
        let window = windows.open(5, copy()).ok_or(ENOSPC)?;
        assert!(windows.covers(1, 7 * PMD, PMD));
        assert!(!windows.covers(2, 7 * PMD, PMD));
        assert!(!windows.covers(1, 8 * PMD, PMD));
        windows.advance(&window, 5 * PMD);
        assert!(!windows.covers(1, 4 * PMD, PMD));
        assert!(windows.covers(1, 4 * PMD, PMD + 1));
        Ok(())
    }

    #[test]
    fn ranges_may_wrap() {
        assert!(overlap((0, PMD), (PMD.wrapping_neg() + 1, PMD)));
        assert!(overlap((PMD.wrapping_neg() + 1, PMD), (0, PMD)));
        assert!(!overlap((0, PMD), (PMD.wrapping_neg(), PMD)));
        assert!(!overlap((PMD, PMD), (0, PMD)));
        assert!(!overlap((PMD, 0), (2 * PMD, 0)));
    }

    #[test]
    fn move_names_the_other_place() -> Result {
        let windows = windows()?;
        let window = windows.open(5, forth()).ok_or(ENOSPC)?;
        assert_eq!(windows.judge(1, 21, 4 * PMD).alt_delta, Some(12 * PMD));
        let back = (12 * PMD).wrapping_neg();
        assert_eq!(windows.judge(1, 22, 16 * PMD).alt_delta, Some(back));
        assert_eq!(windows.judge(1, 23, 16 * PMD).alt_delta, None);
        assert!(windows.moving(1, 5 * PMD, 1) && windows.moving(1, 17 * PMD, 1));
        assert!(!windows.moving(1, 6 * PMD, PMD) && !windows.moving(2, 5 * PMD, 1));
        // Within one VMA the place is the same address.
        let within = Kind::Move {
            mm: 1,
            old_vma: 31,
            new_vma: 31,
            old_addr: 0,
            new_addr: PMD,
            len: PMD,
            mark: PMD,
        };
        windows.open(6, within).ok_or(ENOSPC)?;
        assert_eq!(windows.judge(1, 31, 0).alt_delta, None);
        windows.close(&window);
        assert_eq!(windows.judge(1, 21, 4 * PMD).alt_delta, None);
        Ok(())
    }

    #[test]
    fn move_is_rekeyed_up_to_its_mark() -> Result {
        let windows = windows()?;
        let window = windows.open(5, forth()).ok_or(ENOSPC)?;
        windows.advance(&window, 17 * PMD);
        let open = windows.move_of(5, 1).ok_or(ENOENT)?;
        assert_eq!(open.window.map(|w| w.ticket), Some(window.ticket));
        assert_eq!((open.new_vma, open.delta), (22, 12 * PMD));
        assert_eq!((open.mark, open.end), (17 * PMD, 18 * PMD));
        assert!(windows.move_of(5, 2).is_none());
        assert!(windows.move_of(6, 1).is_none());
        let of_task = windows.any_move_of(5);
        assert_eq!(of_task.map(|w| w.ticket), Some(window.ticket));
        assert!(windows.any_move_of(6).is_none());
        // Backwards: the difference wraps.
        let back = Kind::Move {
            mm: 1,
            old_vma: 22,
            new_vma: 21,
            old_addr: 16 * PMD,
            new_addr: 4 * PMD,
            len: PMD,
            mark: 4 * PMD,
        };
        windows.open(6, back).ok_or(ENOSPC)?;
        let open = windows.move_of(6, 1).ok_or(ENOENT)?;
        assert_eq!((16 * PMD).wrapping_add(open.delta), 4 * PMD);
        Ok(())
    }

    #[test]
    fn uffd_is_told_by_its_task() -> Result {
        let windows = windows()?;
        let kind = Kind::Uffd {
            mm: 1,
            dst_addr: 8 * PMD,
            src_addr: 2 * PMD,
        };
        let window = windows.open(5, kind).ok_or(ENOSPC)?;
        assert_eq!(windows.uffd_of(5), Some((1, 2 * PMD, 8 * PMD)));
        assert_eq!(windows.uffd_of(6), None);
        assert!(windows.moving(1, 2 * PMD, PMD) && windows.moving(1, 8 * PMD, PMD));
        assert!(!windows.moving(1, 3 * PMD, PMD));
        let of_task = windows.any_move_of(5);
        assert_eq!(of_task.map(|w| w.ticket), Some(window.ticket));
        assert!(windows.any_move_of(6).is_none());
        assert!(!windows.ticket_open(window.ticket));
        Ok(())
    }

    #[test]
    fn tickets_are_in_the_order_of_opening() -> Result {
        let windows = windows()?;
        let first = windows.open(5, copy()).ok_or(ENOSPC)?;
        windows.uncount();
        let second = windows.open(6, forth()).ok_or(ENOSPC)?;
        let tickets = (first.ticket, second.ticket);
        assert!(tickets.0 < tickets.1);
        assert!(windows.ticket_open(tickets.0) && windows.ticket_open(tickets.1));
        assert_eq!(windows.next_open(0), Some((tickets.0, 5)));
        assert_eq!(windows.next_open(tickets.0), Some((tickets.1, 6)));
        assert_eq!(windows.next_open(tickets.1), None);
        assert_eq!(windows.counts(), (1, 2, 0, 0));
        windows.close(&first);
        assert!(!windows.ticket_open(tickets.1));
        assert_eq!(windows.next_open(0), Some((tickets.1, 6)));
        windows.clear();
        assert!(!windows.any_open() && windows.next_open(0).is_none());
        // A number is never given twice.
        assert!(windows
            .open(5, copy())
            .is_some_and(|w| w.ticket > tickets.1));
        Ok(())
    }

    #[test]
    fn stale_window_is_that_of_the_task() -> Result {
        let windows = windows()?;
        windows.open(5, copy()).ok_or(ENOSPC)?;
        let stale = windows.open(6, forth()).ok_or(ENOSPC)?;
        assert!(windows.take_stale(7).is_none());
        let taken = windows.take_stale(6);
        assert_eq!(taken.map(|w| w.ticket), Some(stale.ticket));
        assert!(windows.take_stale(6).is_none());
        assert_eq!(windows.counts(), (2, 1, 1, 0));
        assert!(windows.copy_of(5, 2).is_some() && windows.copy_of(5, 1).is_none());
        windows.reset();
        assert_eq!(windows.counts(), (2, 1, 0, 0));
        Ok(())
    }

    #[test]
    fn what_finds_no_room_covers_everything() -> Result {
        let windows = windows()?;
        for task in 0..MAX_WINDOWS {
            windows.open(task, forth()).ok_or(ENOSPC)?;
        }
        assert!(!windows.covers(9, 0, PMD));
        assert!(!windows.lack());
        assert!(windows.open(MAX_WINDOWS, forth()).is_none());
        assert!(windows.covers(9, 0, PMD) && windows.lack());
        assert!(windows.open(MAX_WINDOWS, copy()).is_none());
        assert!(windows.covers(9, 0, PMD));
        assert_eq!(
            windows.counts(),
            (MAX_WINDOWS as u64, MAX_WINDOWS as u64, 0, 2)
        );
        windows.close_overflow();
        assert!(windows.covers(9, 0, PMD) && windows.lack());
        windows.close_overflow();
        assert!(!windows.covers(9, 0, PMD) && windows.any_open());
        Ok(())
    }
}
