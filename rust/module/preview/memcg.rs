// SPDX-License-Identifier: GPL-2.0

//! Change 1 by memory cgroup.

use kernel::prelude::*;

use crate::procwalk::{
    self,
    PATH_LEN, //
};

/// Most cgroups that are kept apart.
const MAX_MEMCGS: usize = 64;

/// What would be added to the memory.stat of one cgroup by the folios that are charged to itself.
pub(crate) struct Memcg {
    /// Inode number of the cgroup.
    pub(crate) ino: u64,
    /// Folios that are counted differently.
    pub(crate) folios: u64,
    /// Pages more in anon.
    pub(crate) anon: i64,
    /// Pages more in `file_mapped`.
    pub(crate) file: i64,
    path: [u8; PATH_LEN],
}

impl Memcg {
    /// Returns the path of the cgroup; it may be cut.
    pub(crate) fn path(&self) -> &[u8] {
        self.path.split(|byte| *byte == 0).next().unwrap_or(b"?")
    }
}

/// The cgroups, as they came.
pub(crate) struct Memcgs {
    /// Those that found room.
    pub(crate) list: KVVec<Memcg>,
    /// Folios of those that did not.
    pub(crate) overflow: u64,
}

impl Memcgs {
    /// Allocates room.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            list: KVVec::with_capacity(MAX_MEMCGS, GFP_KERNEL)?,
            overflow: 0,
        })
    }

    /// Adds pages to the cgroup that a folio is charged to, if it is to any.
    pub(super) fn add(&mut self, pfn: u64, order: u8, anon: bool, pages: i64) {
        let Some(ino) = procwalk::memcg_of(pfn, order) else {
            return;
        };
        if !self.list.iter().any(|memcg| memcg.ino == ino) {
            if self.list.len() >= MAX_MEMCGS {
                self.overflow += 1;
                return;
            }
            let path = match procwalk::memcg_path_of(pfn, order) {
                Some((same, path)) if same == ino => path,
                _ => [0; PATH_LEN],
            };
            let memcg = Memcg {
                ino,
                folios: 0,
                anon: 0,
                file: 0,
                path,
            };
            // Cannot fail: there is room.
            let _ = self.list.push(memcg, GFP_NOWAIT);
        }
        if let Some(memcg) = self.list.iter_mut().find(|memcg| memcg.ino == ino) {
            memcg.folios += 1;
            let sum = if anon {
                &mut memcg.anon
            } else {
                &mut memcg.file
            };
            *sum = sum.saturating_add(pages);
        }
    }
}
