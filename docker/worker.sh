#!/bin/sh
# A worker of several that share one volume: takes the first slot that no living worker holds. The lock goes with the
# descriptor: the kernel gives it back when the process ends, whichever way, and the next worker finds slot and state.
#
#   headrace-worker [flags of headrace run]      HEADRACE_SLOTS names the volume's directory (/var/lib/headrace)
set -eu
slots=${HEADRACE_SLOTS:-/var/lib/headrace}
slot=0
while [ $slot -lt 1000 ]; do
    exec 9>"$slots/slot-$slot.lock"
    if flock --nonblock 9; then
        # State is everybody's: its dead letters are sent by one alone.
        dead_letters=false
        [ $slot -ne 0 ] || dead_letters=true
        echo "headrace-worker: slot $slot of $slots" >&2
        exec headrace run --set "state.dir=$slots/slot-$slot" --set "instance_id=slot-$slot" \
            --set "state.dead_letters=$dead_letters" "$@"
    fi
    slot=$((slot + 1))
done
echo "headrace-worker: all slots of $slots are held; is it really this many workers that share it?" >&2
exit 1
