"""`python -m xpnn` is the `xpnn` command."""

from xpnn.cli import main

raise SystemExit(main())
