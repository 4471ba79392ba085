"""Procedural frontal chest radiographs, written as real DICOM files; synthetic, and named so."""
