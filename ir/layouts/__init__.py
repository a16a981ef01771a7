"""The layouts that every machine knows, one file each; a file here is found by being here."""

from burnish.ir.discover import import_all

import_all(__name__, __path__)
