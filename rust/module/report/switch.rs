// SPDX-License-Identifier: GPL-2.0

//! `enable` and `reset`.

use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print, //
};

use crate::{
    control::{
        Control,
        Group, //
    },
    debugfs::File, //
};

/// `enable`: whether folios are tracked.
pub(crate) struct Enable;

impl File<Control> for Enable {
    const NAME: &'static CStr = c"enable";
    const MODE: u16 = 0o600;

    fn show(control: &Control, m: &SeqFile) -> Result {
        seq_print!(m, "{}\n", u8::from(control.session.enabled()));
        Ok(())
    }

    fn store(control: &Control, text: &str) -> Result {
        match text {
            "1" | "y" | "Y" => {
                control.session.enable()?;
                control.background.enabled();
                Ok(())
            }
            "0" | "n" | "N" => {
                control.session.disable();
                Ok(())
            }
            _ => Err(EINVAL),
        }
    }
}

/// `reset`: statistics to zero, all or those of some groups.
pub(crate) struct Reset;

impl File<Control> for Reset {
    const NAME: &'static CStr = c"reset";
    const MODE: u16 = 0o200;

    fn store(control: &Control, text: &str) -> Result {
        if text == "1" {
            return Group::ALL
                .iter()
                .try_for_each(|group| control.reset(*group));
        }
        // All of them are known before any is reset.
        let group = |name| Group::ALL.iter().find(|group| group.name() == name);
        if text.is_empty()
            || text
                .split_ascii_whitespace()
                .any(|name| group(name).is_none())
        {
            return Err(EINVAL);
        }
        for group in text.split_ascii_whitespace().filter_map(group) {
            control.reset(*group)?;
        }
        Ok(())
    }
}
