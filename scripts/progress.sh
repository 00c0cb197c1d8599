# For scripts to source: runs a long command behind one line that says how far it is.
#
#   with_progress WHAT LOG COMMAND [ARGUMENT ...]
#
# All that COMMAND prints is added to the file LOG. On a terminal one line, written over and over, follows the percentages
# of make ("[ 42%] Building ...") and of apt (with APT::Status-Fd); elsewhere a line says what begins.
with_progress() {
  local what=$1 log=$2 status=0 started=$SECONDS
  shift 2
  if [ -t 1 ]; then printf '%s ...' "$what"; else echo "$what ..."; fi
  "$@" 2>&1 | _follow "$what" "$log" || status=$?
  if [ -t 1 ]; then printf '\r\033[K'; fi
  [ $status != 0 ] || echo "$what: done, $((SECONDS - started)) s"
  return $status
}

_follow() {
  local line shown= percent
  while IFS= read -r line || [ -n "$line" ]; do
    percent=
    case $line in
      dlstatus:*|pmstatus:*)  # pmstatus:PACKAGE:PERCENT:WHAT
        percent=${line#*:*:}
        percent="${percent%%[.:]*} %, $(case $line in dl*) echo fetching ;; *) echo installing ;; esac)" ;;
      "["*"%] Building"*|"["*"%] Linking"*)
        percent=${line%%\%*}
        percent="${percent//[^0-9]/} %" ;;
    esac
    [[ $line == [dp][lm]status:* ]] || printf '%s\n' "$line" >> "$2"
    if [ -n "$percent" ] && [ "$percent" != "$shown" ] && [ -t 1 ]; then
      printf '\r\033[K%s: %s' "$1" "$percent"
      shown=$percent
    fi
  done
}
