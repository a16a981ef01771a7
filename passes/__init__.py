"""The rewriting engine, the passes (one file each) and the pipelines. Of ours, imports only `burnish.ir`."""

assert __name__ == "burnish.passes"
