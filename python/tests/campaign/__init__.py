"""The fault campaign: damaged files, kills and full disks, at random, judged by
docs/reliability.md."""
