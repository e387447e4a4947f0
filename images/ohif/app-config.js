/* The viewer's configuration: one data source, on the viewer's own origin. */

// The tour of a first visit looks for its first step too early, then dims the image and catches every click. It is
// called shown before the viewer starts; as a customization ('ohif.tours') this comes too late now and then.
localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));

window.config = {
  name: 'mini_pacs_edge',
  routerBasename: null,
  extensions: [],
  modes: [],
  customizationService: {},
  showStudyList: true,
  showLoadingIndicator: true,
  showCPUFallbackMessage: true,
  showWarningMessageForCrossOrigin: true,
  showErrorDetails: 'always',
  strictZSpacingForVolumeViewport: true,
  groupEnabledModesFirst: true,
  maxNumberOfWebWorkers: 3,
  // one origin, HTTP/1.1: more than a browser's six connections only queue up in it
  maxNumRequests: { interaction: 20, thumbnail: 10, prefetch: 6 },
  // not a medical device: said once a year to each browser
  investigationalUseDialog: { option: 'configure', days: 365 },
  defaultDataSourceName: 'orthanc',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'orthanc',
      configuration: {
        friendlyName: 'Orthanc',
        name: 'orthanc',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/dicom-web',
        qidoSupportsIncludeField: false,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        supportsReject: false,
        // images enter by the edge, which knows what it owes; not by the browser
        dicomUploadEnabled: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        singlepart: 'bulkdata,video,pdf',
        bulkDataURI: { enabled: true, relativeResolution: 'studies' },
        omitQuotationForMultipartRequest: true,
      },
    },
  ],
};
