#include "pipeline/libraries.h"

#include <mpi.h>

#include <stdio.h>
#include <string.h>

// MPI says more than a version: "Open MPI v4.1.4, package: ..., ident: 4.1.4, ..."; MPICH ends lines.
void mpi_library(struct library *library) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int bytes = 0;
    *library = (struct library){.name = "MPI"};
#ifdef OMPI_MAJOR_VERSION
    snprintf(library->built, sizeof library->built, "Open MPI v%d.%d.%d", OMPI_MAJOR_VERSION,
             OMPI_MINOR_VERSION, OMPI_RELEASE_VERSION);
#else
    snprintf(library->built, sizeof library->built, "MPI %d.%d", MPI_VERSION, MPI_SUBVERSION);
#endif
    if (MPI_Get_library_version(text, &bytes) != MPI_SUCCESS) {
        snprintf(library->missing, sizeof library->missing, "MPI_Get_library_version fails");
        return;
    }
    text[strcspn(text, ",\r\n")] = '\0';
    snprintf(library->running, sizeof library->running, "%.63s", text);
}
