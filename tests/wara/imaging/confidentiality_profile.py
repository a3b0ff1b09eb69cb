"""Attributes of the Basic Application Level Confidentiality Profile (DICOM PS3.15, Table E.1-1) with its actions.

Those that identify persons, days, places, devices and examinations, by the keyword of PS3.6. X: remove; Z: empty or
a dummy; D: a dummy; U: another UID, the same one throughout. Combined actions stand under the strictest.
"""

from __future__ import annotations

_BY_ACTION = {
    "X": """
        AcquisitionComments AcquisitionContextSequence AcquisitionDate AcquisitionDateTime
        AcquisitionDeviceProcessingDescription AcquisitionFieldOfViewLabel AcquisitionProtocolDescription
        AcquisitionTime ActualHumanPerformersSequence AdditionalPatientHistory AdmissionID AdmittingDate
        AdmittingDiagnosesCodeSequence AdmittingDiagnosesDescription AdmittingTime AffectedSOPInstanceUID Allergies
        Arbitrary AuthorObserverSequence BranchOfService CassetteID CommentsOnThePerformedProcedureStep
        ConcatenationUID ConfidentialityConstraintOnPatientDataDescription ContentCreatorIdentificationCodeSequence
        ContentCreatorName ContentDate ContentTime ContributionDescription CountryOfResidence CurrentPatientLocation
        CurveDate CurveTime CustodialOrganizationSequence DataSetTrailingPadding DateOfLastCalibration
        DateOfLastDetectorCalibration DateOfSecondaryCapture DerivationDescription DetectorID DeviceDescription
        DeviceLabel DeviceSerialNumber DigitalSignaturesSequence DigitalSignatureDateTime DischargeDiagnosisDescription
        DistributionAddress DistributionName EndAcquisitionDateTime ExpectedCompletionDateTime
        FillerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequestRetired FrameComments
        FrameOriginTimestamp GantryID GeneratorID GraphicAnnotationSequence HumanPerformerName
        HumanPerformerOrganization IconImageSequence IdentifyingComments ImageComments ImagePresentationComments
        ImagingServiceRequestComments Impressions InstanceCoercionDateTime InstanceCreationDate InstanceCreationTime
        InstitutionAddress InstitutionName InstitutionCodeSequence InstitutionalDepartmentName
        InstitutionalDepartmentTypeCodeSequence InsurancePlanIdentification
        IntendedRecipientsOfResultsIdentificationSequence
        InterpretationApproverSequence InterpretationAuthor InterpretationDiagnosisDescription
        InterpretationIDIssuer InterpretationRecorder InterpretationText InterpretationTranscriber
        IssueDateOfImagingServiceRequest IssueTimeOfImagingServiceRequest IssuerOfAdmissionID IssuerOfPatientID
        IssuerOfServiceEpisodeID LastMenstrualDate MAC MakerNote MedicalAlerts MedicalRecordLocator MilitaryRank
        ModifiedAttributesSequence ModifiedImageDescription ModifyingSystem NameOfPhysiciansReadingStudy
        NamesOfIntendedRecipientsOfResults Occupation OperatorIdentificationSequence OperatorsName
        OrderCallbackPhoneNumber OrderCallbackTelecomInformation OrderEnteredBy OrderEntererLocation
        OriginalAttributesSequence OtherPatientIDs OtherPatientIDsSequence OtherPatientNames OverlayDate OverlayTime
        ParticipantSequence PatientAddress PatientAge PatientBirthName PatientBirthTime PatientComments
        PatientInstitutionResidence PatientInsurancePlanCodeSequence PatientMotherBirthName
        PatientPrimaryLanguageCodeSequence PatientPrimaryLanguageModifierCodeSequence PatientReligiousPreference
        PatientSexNeutered PatientSize PatientState PatientTelecomInformation PatientTelephoneNumbers
        PatientTransportArrangements PatientWeight PerformedLocation PerformedProcedureStepDescription
        PerformedProcedureStepEndDate PerformedProcedureStepEndDateTime PerformedProcedureStepEndTime
        PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartDateTime
        PerformedProcedureStepStartTime PerformedStationAETitle PerformedStationGeographicLocationCodeSequence
        PerformedStationName PerformedStationNameCodeSequence PerformingPhysicianIdentificationSequence
        PerformingPhysicianName PersonAddress PersonIdentificationCodeSequence PersonName PersonTelecomInformation
        PersonTelephoneNumbers PhysicianApprovingInterpretation PhysiciansOfRecord
        PhysiciansOfRecordIdentificationSequence PhysiciansReadingStudyIdentificationSequence PlateID
        PreMedication PregnancyStatus ProcedureStepCancellationDateTime ProtocolName ReasonForTheImagingServiceRequest
        ReasonForStudy ReferencedDigitalSignatureSequence ReferencedPatientAliasSequence ReferencedPatientSequence
        ReferencedPerformedProcedureStepSequence ReferencedSOPInstanceMACSequence ReferencedStudySequence
        ReferringPhysicianAddress ReferringPhysicianIdentificationSequence ReferringPhysicianTelephoneNumbers
        RegionOfResidence RequestAttributesSequence RequestedContrastAgent RequestedProcedureComments
        RequestedProcedureDescription RequestedProcedureID RequestedProcedureLocation RequestingPhysician
        RequestingService ResponsibleOrganization ResponsiblePerson ResultsComments ResultsDistributionListSequence
        ResultsIDIssuer ReviewerName ScheduledHumanPerformersSequence
        ScheduledPatientInstitutionResidence ScheduledPerformingPhysicianIdentificationSequence
        ScheduledPerformingPhysicianName ScheduledProcedureStepDescription ScheduledProcedureStepEndDate
        ScheduledProcedureStepEndTime ScheduledProcedureStepID ScheduledProcedureStepLocation
        ScheduledProcedureStepStartDate ScheduledProcedureStepStartTime ScheduledStationAETitle
        ScheduledStationGeographicLocationCodeSequence ScheduledStationName ScheduledStudyLocation
        ScheduledStudyLocationAETitle SeriesDate SeriesDescription SeriesTime ServiceEpisodeDescription
        ServiceEpisodeID SmokingStatus SourceImageSequence SpecialNeeds StationName StudyComments StudyDescription
        StudyIDIssuer TextComments TextString TimeOfLastCalibration TimeOfSecondaryCapture TimezoneOffsetFromUTC
        TopicAuthor TopicKeywords TopicSubject TopicTitle TransducerIdentificationSequence UDISequence
        UniqueDeviceIdentifier VerifyingOrganization VisitComments XRayDetectorID XRaySourceID
        ScheduledStationNameCodeSequence ContrastBolusAgent ManufacturerDeviceIdentifier
        GPSLatitude GPSLongitude GPSAltitude GPSDateStamp EthnicGroup StudyStatusID
        DoseReferenceUID FailedSOPInstanceUIDList
    """,
    "Z": """
        AccessionNumber PatientBirthDate PatientName PatientSex PlacerOrderNumberImagingServiceRequest
        ReferringPhysicianName StudyDate StudyID StudyTime ConsultingPhysicianName VerifyingObserverName
        ScheduledProcedureStepStartDateTime
    """,
    "D": """
        ContentSequence DateTime FrameAcquisitionDateTime FrameReferenceDateTime HangingProtocolName
        StartAcquisitionDateTime VerificationDateTime
    """,
    "U": """
        SOPInstanceUID StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID InstanceCreatorUID
        CreatorVersionUID DeviceUID DimensionOrganizationUID IrradiationEventUID LargePaletteColorLookupTableUID
        MultiFrameSourceSOPInstanceUID PaletteColorLookupTableUID ReferencedFrameOfReferenceUID
        ReferencedSOPInstanceUID RelatedFrameOfReferenceUID RequestedSOPInstanceUID StorageMediaFileSetUID
        SynchronizationFrameOfReferenceUID TargetUID TransactionUID UID TrackingUID ObservationUID
        AcquisitionUID ConceptualVolumeUID SpecimenUID SourceConceptualVolumeUID
    """,
}
ACTIONS: dict[str, str] = {keyword: action for action, text in _BY_ACTION.items() for keyword in text.split()}
