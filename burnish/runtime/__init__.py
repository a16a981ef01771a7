"""Sessions, generation, tokenizers and the compiled package; composes pipelines and backends."""
