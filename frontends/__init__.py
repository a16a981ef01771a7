"""Importers: one module per file format. Of ours, imports only `burnish.ir`."""

assert __name__ == "burnish.frontends"
