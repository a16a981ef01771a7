"""`python -m burnish`, which is the command `burnish`."""

from burnish.cli import main

main()
