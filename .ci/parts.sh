# Sourced by `.ci/run` and `.ci/fast`: parts with their times, and where the real data are.
export CARGO_TERM_COLOR=never
begun=$SECONDS

part() { # part NAME COMMAND...
  local name=$1 start=$SECONDS
  shift
  echo "== $name: $*"
  "$@"
  times+=("$(printf '%-16s %5d s' "$name" $((SECONDS - start)))")
  echo "== $name: $((SECONDS - start)) s"
}

times=()
all_done() { # the time of each part
  printf '== %s\n' "${times[@]}" "$(printf '%-16s %5d s' all $((SECONDS - begun)))"
}

if [ -z "${ULMFIT_DATA:-}" ] && [ -d ../shared/data ]; then
  ULMFIT_DATA=$(cd ../shared/data && pwd)
  export ULMFIT_DATA
fi
if [ -n "${ULMFIT_DATA:-}" ]; then
  echo "data: $ULMFIT_DATA"
else
  echo "data: none (set ULMFIT_DATA to a folder with the data sets): tests on real data are skipped, each with a line"
fi

command -v cargo > /dev/null || { echo "cargo is needed: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer"; exit 1; }
