"""The rewriting engine, the passes (one file each) and the pipelines. Of ours, imports only `burnish.ir`.

A file here is found by being here.
"""

from burnish.ir.discover import import_all

assert __name__ == "burnish.passes", f"import burnish.passes, not {__name__}"

import_all(__name__, __path__)
