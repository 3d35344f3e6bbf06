"""The sections of a settings file, a module for each: [search] stands in `search`. `config` puts them together."""
