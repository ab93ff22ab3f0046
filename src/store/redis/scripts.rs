//! The Lua scripts, one per operation. Those of rooms are the rules in `lua/room/` with the operation after them.

use super::script::Script;

/// The text of an operation's script.
macro_rules! text {
    ($file:literal) => {
        concat!(
            include_str!("../../../lua/room/bits.lua"),
            include_str!("../../../lua/room/line.lua"),
            include_str!("../../../lua/room/state.lua"),
            include_str!("../../../lua/room/tick.lua"),
            include_str!("../../../lua/room/heal.lua"),
            include_str!("../../../lua/room/present.lua"),
            include_str!("../../../lua/room/away.lua"),
            include_str!("../../../lua/room/users.lua"),
            include_str!(concat!("../../../lua/", $file)),
        )
    };
}

/// The scripts of all operations.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) arrive: Script,
    pub(super) observe: Script,
    pub(super) enter: Script,
    pub(super) touch: Script,
    pub(super) leave: Script,
    pub(super) away: Script,
    pub(super) control: Script,
    pub(super) limit: Script,
    pub(super) once: Script,
    pub(super) muster: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            arrive: Script::new("arrive", text!("arrive.lua")),
            observe: Script::new("observe", text!("observe.lua")),
            enter: Script::new("enter", text!("enter.lua")),
            touch: Script::new("touch", text!("touch.lua")),
            leave: Script::new("leave", text!("leave.lua")),
            away: Script::new("away", text!("away.lua")),
            control: Script::new("control", text!("control.lua")),
            limit: Script::new("limit", include_str!("../../../lua/limit.lua")),
            once: Script::new("once", include_str!("../../../lua/once.lua")),
            muster: Script::new("muster", include_str!("../../../lua/muster.lua")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_trial_asks_for_every_command_that_the_scripts_use() {
        let commands = |text: &'static str, before: &str| -> BTreeSet<_> {
            text.split(before)
                .skip(1)
                .filter_map(|rest| rest.split_once('\''))
                .map(|(name, _)| name)
                .collect()
        };
        let Scripts { arrive, observe, enter, touch, leave, away, control, limit, once, muster } =
            Scripts::new();
        let scripts = [arrive, observe, enter, touch, leave, away, control, limit, once, muster];
        let mut used: BTreeSet<_> =
            scripts.iter().flat_map(|script| commands(script.text, "call('")).collect();
        used.extend(["EVAL", "EVALSHA"]);
        assert_eq!(used, commands(include_str!("../../../lua/trial.lua"), "\nneed('"));
    }
}
