"""`python -m steadypix` is the command `steadypix`."""

import sys

from steadypix.main import main

sys.exit(main())
