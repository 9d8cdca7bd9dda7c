#!/bin/bash
# Asks the node of this container one question; bash alone does it, the image has no HTTP client.
#
#   healthcheck /healthz    is it alive?
#   healthcheck /readyz     shall it get clients?
port=${HEALTHCHECK_PORT:-9000}
exec 3<>"/dev/tcp/127.0.0.1/$port" || exit 1
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "${1:-/healthz}" >&3
read -r -t 2 _ status _ <&3
[[ $status == 200 ]]
