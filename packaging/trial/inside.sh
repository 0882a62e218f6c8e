#!/usr/bin/env bash
# The life of the package on one machine, as root under systemd: inside.sh FOLDER, which has the packages first.deb, second.deb
# (a later version), broken.deb (one whose program does not start) and third.deb, and tunnel.py. Prints what it does and sees.
set -euo pipefail
trial=$1
cd /
work=$(mktemp -d)

step() { echo; echo "== $*"; }
# Shows a command as a person would type it, and runs it.
run() { echo "\$ $*"; "$@"; }
fail() { echo "FAILED: $*"; exit 1; }
main_pid() { systemctl show -P MainPID longhaul; }

# Waits for a command to succeed; a minute is for machines that are busy.
await() {
  local left=600
  until "$@" >/dev/null 2>&1; do
    ((left--)) || fail "still not so after a minute: $*"
    sleep 0.1
  done
}
answers() { [ "$(python3 "$trial/tunnel.py" get 8080)" = "$1" ]; }
is_up() { longhaul status | grep -q "127.0.0.1:$1 .* up "; }
past() { [ "$(cat "$work/count" 2>/dev/null || echo 0)" -gt "$1" ]; }
# The tunnel goes on: numbers that are sent from now on come back.
goes_on() {
  local count
  kill -0 "$tunnel" || fail "the tunnel has ended: $(cat "$work/tunnel")"
  count=$(cat "$work/count")
  await past $((count + 5))
  echo "the tunnel goes on: $(cat "$work/count") messages came back"
}

stat -f -c 'cgroups: %T' /sys/fs/cgroup
systemctl --version | head -1

step "install"
run dpkg -i "$trial/first.deb"
[ "$(systemctl is-active longhaul)" = active ] || fail "not started"
[ "$(systemctl is-enabled longhaul)" = enabled ] || fail "not enabled"
run longhaul check -c /etc/longhaul/longhaul.yaml
await answers 503
[ "$(ps -o user= -p "$(main_pid)")" = longhaul ] || fail "not run by its user"
[ "$(stat -c '%U %a' /run/longhaul /var/lib/longhaul | sort -u)" = "longhaul 700" ] || fail "folders"
for page in longhaul longhaul-init longhaul-drain-backend; do
  [ -e "/usr/share/man/man1/$page.1.gz" ] || fail "no man page $page"
done
[ -e /usr/share/bash-completion/completions/longhaul ] || fail "no completion"

step "a backend, and a tunnel"
python3 "$trial/tunnel.py" echo 9001 &
await is_up 9001
await answers 200
python3 "$trial/tunnel.py" hold 8080 "$work/count" >"$work/tunnel" 2>&1 &
tunnel=$!
await past 0
run longhaul status
goes_on

step "reload: another backend"
python3 "$trial/tunnel.py" echo 9002 &
sed -i 's/^      - 127.0.0.1:9001$/&\n      - 127.0.0.1:9002/' /etc/longhaul/longhaul.yaml
run systemctl reload longhaul
longhaul status | grep -q '^generation  *2$' || fail "no second generation"
await is_up 9002
goes_on

step "reload: a file with a fault is refused, and nothing changes"
cp /etc/longhaul/longhaul.yaml "$work/good.yaml"
sed -i 's/health:/helth:/' /etc/longhaul/longhaul.yaml
if systemctl reload longhaul; then fail "the fault was taken"; fi
journalctl -u longhaul -o cat --no-pager | grep -q 'helth' || fail "the journal does not name the fault"
cp "$work/good.yaml" /etc/longhaul/longhaul.yaml
[ "$(systemctl is-active longhaul)" = active ] || fail "not active"
goes_on

step "upgrade of the package, under the open tunnel"
before=$(main_pid)
run dpkg -i "$trial/second.deb"
[ "$(main_pid)" != "$before" ] || fail "the old process goes on"
await test ! -e "/proc/$before"
[ "$(systemctl is-active longhaul)" = active ] || fail "not active"
[ "$(systemctl show -P NRestarts longhaul)" = 0 ] || fail "restarted"
cmp -s "$work/good.yaml" /etc/longhaul/longhaul.yaml || fail "the configuration was replaced"
goes_on
run longhaul tunnels

step "a package whose program does not start: the old one goes on"
before=$(main_pid)
run dpkg -i "$trial/broken.deb" || fail "dpkg fails"
[ "$(main_pid)" = "$before" ] || fail "another process"
goes_on
step "and the next one mends it"
run dpkg -i "$trial/third.deb"
[ "$(main_pid)" != "$before" ] || fail "the old process goes on"
goes_on

step "reload after upgrades"
run systemctl reload longhaul
goes_on

step "logrotate"
grep -q 'tunnel_open' /var/log/longhaul/access.log || fail "no line of the tunnel"
await answers 200
run logrotate --force /etc/logrotate.d/longhaul
grep -q 'tunnel_open' /var/log/longhaul/access.log.1 || fail "not turned over"
# The gateway opens the file anew when it is told to, and writes the next line there.
written() { answers 200; grep -q ' request ' /var/log/longhaul/access.log; }
await written
goes_on

step "remove"
touch /etc/longhaul/chat.key
before=$(main_pid)
run dpkg -r longhaul
await test ! -e "/proc/$before"
wait "$tunnel" || fail "the tunnel was cut off: $(cat "$work/tunnel")"
run cat "$work/tunnel"
grep -q '^closed 1001$' "$work/tunnel" || fail "another end of the tunnel"
[ "$(systemctl is-active longhaul)" != active ] || fail "still active"
for kept in /etc/longhaul/longhaul.yaml /var/log/longhaul/access.log.1; do
  [ -e "$kept" ] || fail "$kept is gone"
done

step "install again: the operator's file is in force"
run dpkg -i "$trial/second.deb"
await is_up 9002
step "a gateway that an upgrade has started dies, and systemd starts another one"
run dpkg -i "$trial/third.deb"
before=$(main_pid)
kill -KILL "$before"
another() { [ "$(main_pid)" != "$before" ] && answers 200; }
await another
run systemctl show -P NRestarts longhaul

step "a gateway that is stopped stays stopped over an upgrade"
run systemctl stop longhaul
run dpkg -i "$trial/second.deb"
[ "$(systemctl is-active longhaul)" = inactive ] || fail "started"
[ ! -e /run/longhaul.stopped ] || fail "a mark is left"

step "socket unit: connections wait while the gateway restarts"
run systemctl start longhaul.socket
run systemctl start longhaul
await answers 200
run systemctl restart longhaul
answers 200 || fail "refused"

step "purge"
run dpkg -P longhaul
for gone in /etc/longhaul/longhaul.yaml /etc/logrotate.d/longhaul /var/log/longhaul /var/lib/longhaul /usr/bin/longhaul \
  /etc/systemd/system/multi-user.target.wants/longhaul.service; do
  if [ -e "$gone" ] || [ -L "$gone" ]; then fail "$gone is left"; fi
done
[ -e /etc/longhaul/chat.key ] || fail "the operator's key is gone"
systemctl --failed --no-legend | tee "$work/failed"
[ ! -s "$work/failed" ] || fail "failed units"

echo
echo "PASSED"
