"""The reading room's service: intake, workflow, REST, pages, DICOM."""
