# $1 is 1 for a first installation, more for an upgrade. Nothing is started that the system's presets do not start; a gateway
# that runs hands its sockets and tunnels over to the new program, where a restart would drop them.
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || :
  if [ "$1" -eq 1 ]; then systemctl preset longhaul.service longhaul.socket || :; fi
  if systemctl --quiet is-active longhaul.service; then
    longhaul upgrade -c /etc/longhaul/longhaul.yaml ||
      echo "longhaul: the gateway goes on with the program that it was started with, and keeps its tunnels" >&2
  fi
fi
