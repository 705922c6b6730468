#!/usr/bin/env bash
# lanes.sh "STAGE…" "STAGE…" …: `make` each stage, the lanes side by side. All stages run, whichever fails; the last
# lines of those that failed are told again at the end.
set -uo pipefail
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
set -m  # a group for each lane, so that Ctrl-C reaches all of its processes
lanes=()
end() {
    trap '' INT TERM
    for each in "${lanes[@]}"; do kill -INT -- "-$each" 2>/dev/null; done
    wait
    exit 130
}
trap end INT TERM
say() { echo "test: $*" >&2; }

lane() {
    local stage began
    for stage in $1; do
        say "$stage …"
        began=$SECONDS
        if make "$stage" 2>&1 | tee "$logs/$stage" | sed -u "s/^/$stage: /"; then
            say "$stage passed in $((SECONDS - began)) s"
        else
            say "$stage failed after $((SECONDS - began)) s"
            touch "$logs/$stage.failed"
        fi
    done
}

for stages in "$@"; do
    lane "$stages" &
    lanes+=($!)
done
wait "${lanes[@]}"
failed=("$logs"/*.failed)
if [ ! -e "${failed[0]}" ]; then
    say "all passed in $SECONDS s"
    exit 0
fi
for each in "${failed[@]}"; do
    stage=$(basename "$each" .failed)
    say "the end of $stage, which failed:"
    tail -n 40 "$logs/$stage" | sed "s/^/$stage: /" >&2
done
say "failed: $(cd "$logs" && ls *.failed | sed 's/\.failed$//' | paste -sd' '), after $SECONDS s"
exit 1
