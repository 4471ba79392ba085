"""The clinicians' pages: worklist and film."""
