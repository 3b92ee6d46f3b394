// SPDX-License-Identifier: GPL-2.0

//! Tests of what is kept of a call until it returns, and of the tables of names.

use kernel::prelude::*;

#[kunit_tests(fmi_args)]
mod tests {
    use super::super::*;

    #[test]
    fn calls_are_kept_until_they_return() {
        let kept = [
            [0, 0x1000, 0x2000, 0, 0, 0],
            [1, 0x1000, 0x20_0000, 0, 0, 0],
            [2, 0x1000, 0x2000, 0x20_0000, 0x40_0000, 0x3000],
            [3, 0x1000, 0x20_0000, 0x40_0000, 0, 0],
            [4, 0x1000, 0x20_0000, 0x40_0000, 1, 0],
            [4, 0x1000, 0x20_0000, 0x40_0000, 0, 0],
        ];
        for saved in &kept {
            assert!(RareCall::restore(saved).is_some_and(|call| call.save() == *saved));
        }
        assert!(RareCall::restore(&[5, 0, 0, 0, 0, 0]).is_none());
        assert!(RareCall::restore(&RareCall::IDLE).is_none());
    }

    #[test]
    fn kept_arguments_are_in_their_places() {
        let copy = RareCall::restore(&[0, 11, 12, 0, 0, 0]);
        assert!(matches!(copy, Some(RareCall::CopyRange { dst, src })
            if dst.id() == 11 && src.id() == 12));
        let moved = RareCall::restore(&[2, 11, 12, 13, 14, 15]);
        assert!(
            matches!(moved, Some(RareCall::Move { old, new, old_addr: 13, new_addr: 14, len: 15 })
            if old.id() == 11 && new.id() == 12)
        );
        let adjusted = RareCall::restore(&[4, 11, 12, 13, 1, 0]);
        assert!(
            matches!(adjusted, Some(RareCall::AdjustVma { vma, start: 12, end: 13, grows: true })
            if vma.id() == 11)
        );
    }

    #[test]
    fn copy_range_is_where_it_is_looked_for() {
        let is_it = |name: Option<&&CStr>| {
            assert!(name.is_some_and(|name| name.to_bytes() == b"copy_page_range"));
        };
        is_it(RareCall::NAMES.get(RareCall::COPY_RANGE));
        is_it(ProgressCall::NAMES.get(ProgressCall::COPY_RANGE));
    }

    #[test]
    fn rmap_functions_are_those_named() {
        for (position, name) in RmapFunction::NAMES.iter().enumerate() {
            let name = name.to_bytes();
            let removes = name.starts_with(b"folio_remove_");
            assert!(RmapFunction::at(position).is_some_and(|f| f.removes() == removes));
        }
        let at = |name: &CStr| {
            let position = RmapFunction::NAMES
                .iter()
                .position(|n| n.to_bytes() == name.to_bytes());
            position.and_then(RmapFunction::at)
        };
        assert!(at(c"folio_move_anon_rmap") == Some(RmapFunction::MoveAnon));
        assert!(at(c"folio_add_new_anon_rmap") == Some(RmapFunction::AddNewAnon));
        assert!(at(c"hugetlb_add_anon_rmap") == Some(RmapFunction::HugetlbAddAnon));
        assert!(RmapFunction::at(RmapFunction::NAMES.len()).is_none());
    }

    #[test]
    fn second_hooks_are_on_the_functions_with_exit() {
        let call = CheckedCall::UffdMove { mm: 1, src_addr: 2 };
        assert_eq!(call.mm(), 1);
        let name = RareCall::NAMES.get(call.function()).map(|n| n.to_bytes());
        assert_eq!(name, Some(&b"move_pages_huge_pmd"[..]));
        // Each function that is checked has a hook at entry, too; that is all that the others are for.
        for (position, name) in RareCall::NAMES.iter().enumerate() {
            let mut names = ProgressCall::NAMES.iter();
            let has = names.any(|n| n.to_bytes() == name.to_bytes());
            assert_eq!(has, RareCall::is_checked(position));
        }
    }
}
