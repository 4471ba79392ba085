-- What came by DICOM and is a plain film goes to hilum; what hilum sent back stays here.
local films = { CR = true, DX = true }

function OnStoredInstance(instance, tags, metadata, origin)
  if origin['RequestOrigin'] == 'DicomProtocol' and origin['RemoteAet'] ~= 'HILUM' and films[tags['Modality']] then
    SendToModality(instance, 'hilum')
  end
end
