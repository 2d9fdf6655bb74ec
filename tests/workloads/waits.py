"""Prints {"ready": true} and waits. Runs on every Python 3."""

import sys

print('{"ready": true}')
sys.stdout.flush()
sys.stdin.readline()
