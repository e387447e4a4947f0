/* The viewer's configuration: one data source, on the viewer's own origin. */

// Turn off the tour of the first visit: it may start before the page is ready, and then dims the image and catches
// every click. Mark it as shown before the viewer starts; the customization 'ohif.tours' is sometimes applied too late.
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
  // One origin, HTTP/1.1: a browser uses six connections, and more requests wait in the browser.
  maxNumRequests: { interaction: 20, thumbnail: 10, prefetch: 6 },
  // The viewer is not a medical device. Each browser shows a dialog about this once a year.
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
        // Images are received by the edge only, which tracks their deliveries.
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
