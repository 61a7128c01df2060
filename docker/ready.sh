#!/usr/bin/env bash
# Whether something in this container listens on a port, and answers 200 to a path if one is given; needs bash alone.
set -e
exec 3<>"/dev/tcp/127.0.0.1/$1"
[ $# -eq 2 ] || exit 0
printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
read -r _ status _ <&3
[ "$status" = 200 ]
