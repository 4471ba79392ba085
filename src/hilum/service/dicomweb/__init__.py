"""DICOMweb as a server: films in by STOW-RS, films and results found by QIDO-RS and fetched by WADO-RS (PS3.18)."""
