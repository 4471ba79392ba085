"""The lab: the classic CNN studies, each one file that measures a question, draws it, and says what it found."""
